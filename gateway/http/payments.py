"""What one stream cost, from the ledger."""

from __future__ import annotations

from aiohttp import web

from gateway.http.problem import Problem
from gateway.http.route import Route, Token
from gateway.http.sessions import STREAM
from gateway.payments.ledger import LedgerError
from gateway.payments.ledger_reader import LedgerReader
from gateway.payments.report import session_json
from gateway.stream.registry import Registry

MAX_SESSIONS = 100
"""How many sessions of a stream are given: the newest, each of one job on one orchestrator."""
MAX_PAYMENTS = 1000
"""How many payments of each session are given: the newest. Its sums are over all of them."""


class PaymentRoutes:
    """The ledger's view of a stream, live or long over."""

    def __init__(self, registry: Registry, ledger_reader: LedgerReader) -> None:
        self._registry = registry
        self._ledger_reader = ledger_reader

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                STREAM + "/payments",
                self.payments,
                "what a stream paid to whom: its newest sessions and payments, and every step of each",
                {
                    200: "the sessions, oldest first",
                    404: "no such stream, and none of that name ever paid",
                    503: "the ledger cannot be read now",
                },
                token=Token.PUBLISH,
                by_id=True,
            )
        ]

    async def payments(self, request: web.Request) -> web.Response:
        name = request.match_info["stream"]
        stream = self._registry.find_with_ended(name)
        wanted = stream.request.stream_id if stream is not None else name
        try:
            sessions = [
                session_json(session)
                async for session in self._ledger_reader.sessions(
                    stream=wanted, newest=MAX_SESSIONS, payments_each=MAX_PAYMENTS
                )
            ]
        except LedgerError as error:
            raise Problem(503, "ledger_unavailable", str(error)) from error
        if stream is None and not sessions:
            raise Problem(404, "unknown_stream", f"no stream of the name or id {name[:140]!r} ever paid")
        return web.json_response({"sessions": sessions}, headers={"Cache-Control": "no-store"})
