"""Who used how much: for the operator's bills, and for each customer its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import date
from fractions import Fraction
from typing import TypeVar

from aiohttp import web

from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import Route
from gateway.http.tokens import Grant
from gateway.payments.errors import LedgerError
from gateway.payments.ledger_reader import LedgerReader
from gateway.payments.usage import Every, Period, UsageOwner, UsedBy

Parsed = TypeVar("Parsed")


OF_ONES_OWN = (UsedBy.CUSTOMER, UsedBy.APP, UsedBy.STREAM)
"""What customers may group by."""
CUSTOMERS_AT_ONCE = 2
"""Of whose requests the ledger is read at once: the others wait."""
OPERATORS_ONLY = ("spent_wei",)
"""What customers do not see: the operator's own costs."""


class UsageRoutes:
    """`markup` is what is charged for a wei that was spent.

    `holder` gives whose token a request has, and raises Problem for one that nobody has; without it none are
    taken. Without a token everything is shown where it is `for_operator`.
    """

    def __init__(
        self,
        ledger_reader: LedgerReader,
        markup: Fraction,
        *,
        holder: Callable[[web.Request], Awaitable[Grant | None]] | None = None,
        for_operator: bool = True,
    ) -> None:
        self._ledger_reader = ledger_reader
        self._markup = markup
        self._holder = holder
        self._for_operator = for_operator
        self._customers = asyncio.Semaphore(CUSTOMERS_AT_ONCE)

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/usage",
                self.usage,
                "who used how much, from the ledger: for the operator, or with a token one's own",
                {
                    200: "a row for each key and stretch of time",
                    400: "a parameter of the query that cannot be read",
                    401: "no token of a customer",
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
        query, owner = request.query, await self._owner(request)
        by = _read("by", query.get("by", UsedBy.CUSTOMER), UsedBy, ", ".join(UsedBy))
        if owner is not None and by not in OF_ONES_OWN:
            detail = f"with a customer's token, the query's by takes {', '.join(OF_ONES_OWN)}"
            raise Problem(400, ProblemCode.BAD_PARAMETER, detail)
        every = _read("every", query.get("every", Every.DAY), Every, ", ".join(Every))
        first, last = (
            _read(name, query[name], date.fromisoformat, "a day such as 2026-01-31")
            if name in query
            else None
            for name in ("from", "to")
        )
        turn = nullcontext() if owner is None else self._customers
        try:
            async with turn:
                used = await self._ledger_reader.usage(by, every, Period(first, last), owner)
        except LedgerError as error:
            raise Problem(503, ProblemCode.LEDGER_UNAVAILABLE, str(error)) from error
        rows = [one.row(self._markup) for one in used]
        if owner is not None:
            rows = [{name: one[name] for name in one if name not in OPERATORS_ONLY} for one in rows]
        told = {"by": by, "every": every, "usage": rows}
        return web.json_response(told, headers={"Cache-Control": "no-store"})

    async def _owner(self, request: web.Request) -> UsageOwner | None:
        """Whose usage is told; None is everybody's."""
        grant = None if self._holder is None else await self._holder(request)
        if grant is not None:
            return UsageOwner(grant.publisher, grant.customer.name)
        if self._for_operator:
            return None
        raise Problem(
            401,
            ProblemCode.UNAUTHORIZED,
            "a customer sees its own usage here: send its token as 'Authorization: Bearer TOKEN'; the "
            "operator's is on -cliAddr",
            headers={"WWW-Authenticate": 'Bearer realm="usage"'},
        )


def _read(name: str, text: str, parse: Callable[[str], Parsed], accepts: str) -> Parsed:
    try:
        return parse(text)
    except ValueError as error:
        detail = f"the query's {name} takes {accepts}"
        raise Problem(400, ProblemCode.BAD_PARAMETER, detail) from error
