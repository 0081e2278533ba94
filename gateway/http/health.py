"""`/healthz`: the process is alive. `/readyz`: a publisher would be served."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from gateway.http.route import Route
from gateway.http.schemas import READINESS


class HealthRoutes:
    """`reasons_not_ready` has a sentence for each reason to refuse publishers, `notes` what else is wrong."""

    def __init__(self, reasons_not_ready: Callable[[], list[str]], notes: Callable[[], list[str]]) -> None:
        self._reasons_not_ready = reasons_not_ready
        self._notes = notes

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/healthz", self.healthz, "whether the process is alive", {200: "it is"}),
            Route(
                "GET",
                "/readyz",
                self.readyz,
                "whether a publisher would be served",
                {200: "ready", 503: "not ready, with the reasons"},
                schema=READINESS,
                plain=frozenset({503}),
            ),
        ]

    async def healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(self, _: web.Request) -> web.Response:
        reasons = self._reasons_not_ready()
        if reasons:
            return web.json_response({"status": "not ready", "reasons": reasons}, status=503)
        notes = self._notes()
        return web.json_response({"status": "ready", **({"notes": notes} if notes else {})})
