"""The operator's view of the chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from gateway.http.route import Route


class ChainRoutes:
    """Served where `-ethUrl` is given."""

    def __init__(self, look: Callable[[], dict[str, Any]]) -> None:
        self._look = look

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/chain",
                self.chain,
                "the signer's funds on chain, how long they last, and what stands against paying",
                {200: "what was seen last, with its age"},
            )
        ]

    async def chain(self, _: web.Request) -> web.Response:
        return web.json_response(self._look())
