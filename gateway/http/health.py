"""`/healthz`: the process lives. `/readyz`: a publisher would be served."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from gateway.http.route import Route
from gateway.http.schemas import REASONS


class HealthRoutes:
    """`reasons_not_ready` gives a sentence for each thing that stands between a publisher and a stream."""

    def __init__(self, reasons_not_ready: Callable[[], list[str]]) -> None:
        self._reasons_not_ready = reasons_not_ready

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/healthz", self.healthz, "the process lives", {200: "it does"}),
            Route(
                "GET",
                "/readyz",
                self.readyz,
                "a publisher would be served",
                {200: "it would", 503: "it would not, with the reasons"},
                schema=REASONS,
                plain=frozenset({503}),
            ),
        ]

    async def healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(self, _: web.Request) -> web.Response:
        reasons = self._reasons_not_ready()
        if reasons:
            return web.json_response({"status": "not ready", "reasons": reasons}, status=503)
        return web.json_response({"status": "ready"})
