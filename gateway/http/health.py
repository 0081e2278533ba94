"""`/healthz`: the process lives. `/readyz`: a publisher would be served."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web


class HealthRoutes:
    """`reasons_not_ready` gives a sentence for each thing that stands between a publisher and a stream."""

    def __init__(self, reasons_not_ready: Callable[[], list[str]]) -> None:
        self._reasons_not_ready = reasons_not_ready

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/healthz", self.healthz), web.get("/readyz", self.readyz)]

    async def healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(self, _: web.Request) -> web.Response:
        reasons = self._reasons_not_ready()
        if reasons:
            return web.json_response({"status": "not ready", "reasons": reasons}, status=503)
        return web.json_response({"status": "ready"})
