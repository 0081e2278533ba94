"""A node's limits on requests at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.devnet.live_runners.dialect import Dialect
from gateway.devnet.live_runners.refusal import RequestRefused

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RequestLimits:
    """Counts the open requests: streams (trickle and proxied) apart from control calls."""

    def __init__(self, dialect: Dialect) -> None:
        self._most = {True: dialect.max_streams, False: dialect.max_control_calls}
        self._open = {True: 0, False: 0}

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Raises RequestRefused with 503 where too many are open."""
        streams = _is_stream(request.path)
        most = self._most[streams]
        if most is not None and self._open[streams] >= most:
            raise RequestRefused(503, "server busy")
        self._open[streams] += 1
        try:
            return await handler(request)
        finally:
            self._open[streams] -= 1


def _is_stream(path: str) -> bool:
    parts = path.split("/")
    return path.startswith("/ai/trickle/") or (parts[1] == "apps" and "app" in parts[5:6])
