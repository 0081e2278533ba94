"""What one stream has cost, from the ledger."""

from __future__ import annotations

from aiohttp import web

from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import Route, Token
from gateway.http.sessions import STREAM
from gateway.payments.errors import LedgerError
from gateway.payments.ledger_reader import LedgerReader
from gateway.payments.report import session_json
from gateway.stream.registry import Registry

MAX_SESSIONS = 100
"""Sessions in an answer, at most: the newest. A session is one job on one orchestrator."""
MAX_PAYMENTS = 1000
"""Payments of a session in an answer, at most: the newest. The session's sums are over all."""


class PaymentRoutes:
    """A stream's payments, also long after its end."""

    def __init__(self, registry: Registry, ledger_reader: LedgerReader) -> None:
        self._registry = registry
        self._ledger_reader = ledger_reader

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                STREAM + "/payments",
                self.payments,
                "a stream's newest payment sessions, their payments, and the steps of each payment",
                {
                    200: "the sessions, oldest first",
                    404: "the ledger has no payment of this name or id",
                    503: "the ledger cannot be read",
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
            raise Problem(503, ProblemCode.LEDGER_UNAVAILABLE, str(error)) from error
        if stream is None and not sessions:
            detail = f"the ledger has no payment of a stream of the name or id {name[:140]!r}"
            raise Problem(404, ProblemCode.UNKNOWN_STREAM, detail)
        return web.json_response({"sessions": sessions}, headers={"Cache-Control": "no-store"})
