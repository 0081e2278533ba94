"""Who used how much, for the operator's bills."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from fractions import Fraction
from typing import TypeVar

from aiohttp import web

from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import Route
from gateway.payments.errors import LedgerError
from gateway.payments.ledger_reader import LedgerReader
from gateway.payments.usage import Every, Period, UsedBy

Parsed = TypeVar("Parsed")


class UsageRoutes:
    """`markup` is what is charged for a wei that was spent."""

    def __init__(self, ledger_reader: LedgerReader, markup: Fraction) -> None:
        self._ledger_reader = ledger_reader
        self._markup = markup

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/usage",
                self.usage,
                "who used how much, from the ledger",
                {
                    200: "a row for each key and stretch of time",
                    400: "a parameter of the query that cannot be read",
                    503: "the ledger cannot be read",
                },
                query={
                    "by": f"what rows are for: {', '.join(UsedBy)}; customer by default",
                    "every": f"how long they are: {', '.join(Every)}; day by default",
                    "from": "the first UTC day, such as 2026-01-31",
                    "to": "the last UTC day",
                },
            )
        ]

    async def usage(self, request: web.Request) -> web.Response:
        query = request.query
        by = _read("by", query.get("by", UsedBy.CUSTOMER), UsedBy, ", ".join(UsedBy))
        every = _read("every", query.get("every", Every.DAY), Every, ", ".join(Every))
        first, last = (
            _read(name, query[name], date.fromisoformat, "a day such as 2026-01-31")
            if name in query
            else None
            for name in ("from", "to")
        )
        try:
            used = await self._ledger_reader.usage(by, every, Period(first, last))
        except LedgerError as error:
            raise Problem(503, ProblemCode.LEDGER_UNAVAILABLE, str(error)) from error
        rows = [one.row(self._markup) for one in used]
        return web.json_response({"by": by, "every": every, "usage": rows})


def _read(name: str, text: str, parse: Callable[[str], Parsed], accepts: str) -> Parsed:
    try:
        return parse(text)
    except ValueError as error:
        detail = f"the query's {name} takes {accepts}"
        raise Problem(400, ProblemCode.BAD_PARAMETER, detail) from error
