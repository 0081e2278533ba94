"""The operator's view of the chain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from gateway.http.problem import Problem
from gateway.http.route import Route
from gateway.payments.database import LedgerError


class ChainRoutes:
    """Served where `-ethUrl` is given."""

    def __init__(
        self, look: Callable[[], dict[str, Any]], luck_chart: Callable[[], Awaitable[bytes]]
    ) -> None:
        self._look = look
        self._luck_chart = luck_chart

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/chain",
                self.chain,
                "the signer's funds on chain, how long they last, and what stands against paying",
                {200: "what was seen last, with its age"},
            ),
            Route(
                "GET",
                "/chain/luck.svg",
                self.luck,
                "what tickets should have cost and what was redeemed, by day and orchestrator",
                {200: "a picture", 503: "the ledger cannot be read"},
                gives="image/svg+xml",
            ),
        ]

    async def chain(self, _: web.Request) -> web.Response:
        return web.json_response(self._look())

    async def luck(self, _: web.Request) -> web.Response:
        try:
            chart = await self._luck_chart()
        except LedgerError as error:
            raise Problem(503, "ledger_unavailable", str(error)) from error
        return web.Response(body=chart, content_type="image/svg+xml", headers={"Cache-Control": "no-store"})
