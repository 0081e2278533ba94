"""The operator's routes about the chain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import Route
from gateway.payments.errors import LedgerError


class ChainRoutes:
    """Served with `-ethUrl`: `state` gives the newest reading, `luck_chart` an SVG."""

    def __init__(
        self, state: Callable[[], dict[str, Any]], luck_chart: Callable[[], Awaitable[bytes]]
    ) -> None:
        self._state = state
        self._luck_chart = luck_chart

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/chain",
                self.chain,
                "the signer's funds on chain, how long they last, and why tickets would be refused",
                {200: "the newest reading, with its age"},
            ),
            Route(
                "GET",
                "/chain/luck.svg",
                self.luck,
                "expected against redeemed value of tickets, by day and orchestrator",
                {200: "an SVG", 503: "the ledger cannot be read"},
                gives="image/svg+xml",
            ),
        ]

    async def chain(self, _: web.Request) -> web.Response:
        return web.json_response(self._state())

    async def luck(self, _: web.Request) -> web.Response:
        try:
            chart = await self._luck_chart()
        except LedgerError as error:
            raise Problem(503, ProblemCode.LEDGER_UNAVAILABLE, str(error)) from error
        return web.Response(body=chart, content_type="image/svg+xml", headers={"Cache-Control": "no-store"})
