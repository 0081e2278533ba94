"""What one stream has cost, from the ledger."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence

from aiohttp import web

from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import Route, Token
from gateway.http.sessions import STREAM
from gateway.payments.errors import LedgerError
from gateway.payments.ledger_reader import PAST_ALL, LedgerReader, Place
from gateway.payments.ledger_rows import LedgerSession
from gateway.payments.report import session_json
from gateway.stream.registry import StreamRegistry

MAX_SESSIONS = 100
"""Sessions in an answer, at most: the newest. A session is one job on one orchestrator."""
MAX_PAYMENTS = 1000
"""How many payments are given, over all these sessions: the newest. The sums are over all."""
_PLACE = re.compile(r"(\d{1,10})-(\d{1,10})", re.ASCII)


class PaymentRoutes:
    """A stream's payments, also long after its end."""

    def __init__(self, registry: StreamRegistry, ledger_reader: LedgerReader) -> None:
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
                    400: "a parameter of the query that cannot be read",
                    404: "the ledger has no payment of this name or id",
                    503: "the ledger cannot be read",
                },
                token=Token.PUBLISH,
                by_id=True,
                query={
                    "limit": f"how many payments are given, the newest: 1 to {MAX_PAYMENTS}",
                    "before": "gives older ones: what `next` was in the answer before",
                },
            )
        ]

    async def payments(self, request: web.Request) -> web.Response:
        name = request.match_info["stream"]
        limit, before = _limit(request.query.get("limit")), _place(request.query.get("before"))
        stream = self._registry.find_with_ended(name)
        wanted = stream.request.stream_id if stream is not None else name
        try:
            sessions, place = await self._ledger_reader.page(
                wanted, sessions_limit=MAX_SESSIONS, payments_limit=limit, before=before
            )
        except LedgerError as error:
            raise Problem(503, ProblemCode.LEDGER_UNAVAILABLE, str(error)) from error
        if stream is None and not sessions and before is None:
            detail = f"the ledger has no payment of a stream of the name or id {name[:140]!r}"
            raise Problem(404, ProblemCode.UNKNOWN_STREAM, detail)
        # in a thread: a thousand payments take the loop longer than media may wait
        text = await asyncio.to_thread(_text, sessions, place)
        return web.json_response(text=text, headers={"Cache-Control": "no-store"})


def _text(sessions: Sequence[LedgerSession], place: Place | None) -> str:
    following = None if place is None else f"{place.session}-{place.payment}"
    return json.dumps({"sessions": [session_json(session) for session in sessions], "next": following})


def _limit(given: str | None) -> int:
    if given is None:
        return MAX_PAYMENTS
    if not re.fullmatch(r"[0-9]{1,5}", given) or not 1 <= int(given) <= MAX_PAYMENTS:
        detail = f"the query's limit is a number from 1 to {MAX_PAYMENTS}"
        raise Problem(400, ProblemCode.BAD_PARAMETER, detail)
    return int(given)


def _place(given: str | None) -> Place | None:
    if given is None:
        return None
    match = _PLACE.fullmatch(given)
    if match is None:
        detail = "the query's before is what `next` was in the answer before"
        raise Problem(400, ProblemCode.BAD_PARAMETER, detail)
    return Place(int(match[1]), min(int(match[2]), PAST_ALL))
