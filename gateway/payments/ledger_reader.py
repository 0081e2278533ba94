"""Reads the ledger, a page at a time: sessions, their payments, sums in exact wei."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, or_, select, tuple_

from gateway.payments.books import MINUTE
from gateway.payments.database import Database, rows_of
from gateway.payments.ledger_rows import (
    Grouping,
    LedgerPayment,
    LedgerSession,
    Row,
    SignerCall,
    Total,
)
from gateway.payments.schema import (
    RAND_START_BYTES,
    minutes,
    payments,
    rand_start,
    session_days,
    sessions,
    signings,
)
from gateway.payments.steps import Step
from gateway.payments.ticket import MAX_WIN_PROB
from gateway.payments.usage import Every, Period, Usage, UsageOwner, UsedBy, read_usage

PAGE = 200
"""Rows that are read in one transaction."""
MAX_PREFETCHED = 500
"""Payments that are read together with their sessions."""
PAST_ALL = 2**31 - 1
"""Above the number of every payment."""
_SENT = (Step.DELIVERED, Step.UNKNOWN, Step.CREDITED, Step.HANDED_OUT, Step.REFUSED)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of a stream's payments ends: before this payment of this session, by number."""

    session: int
    payment: int


class LedgerReader:
    """Reads a ledger's database, so many rows at a time; somebody else may write to it meanwhile."""

    def __init__(self, database: Database, *, page: int = PAGE) -> None:
        self._database = database
        self._page = page

    async def sessions(
        self, *, stream: str | None = None, payments: bool = False
    ) -> AsyncIterator[LedgerSession]:
        """All sessions, or those of one stream (name or id), oldest first.

        With `payments`, those that have few come with them; the others' are for `payments_of` to read.
        """
        query = select(sessions).where(*_of_stream(stream)).order_by(sessions.c.number).limit(self._page)
        last = 0
        while True:
            found = await self._sessions(query.where(sessions.c.number > last), payments)
            for session in found:
                yield session
            if len(found) < self._page:
                return
            last = found[-1].row["number"]

    async def payments_of(self, session: LedgerSession) -> AsyncIterator[LedgerPayment]:
        """The payments of a session that are kept, oldest first."""
        if session.complete:
            for payment in session.payments:
                yield payment
            return
        query = select(payments).where(payments.c.session == session.row["number"])
        last = 0
        while True:
            page = query.where(payments.c.number > last).order_by(payments.c.number).limit(self._page)
            found = await self._database.rows(page)
            for row in found:
                yield LedgerPayment.of(row, session.row)
            if len(found) < self._page:
                return
            last = found[-1]["number"]

    async def page(
        self, stream: str, *, sessions_limit: int, payments_limit: int, before: Place | None = None
    ) -> tuple[list[LedgerSession], Place | None]:
        """The newest sessions of a stream, with the newest payments over all of them; oldest first.

        Those before a place, where one is given. Also gives the place of the next page; None after the last.
        """

        def work(connection: Connection) -> tuple[list[LedgerSession], Place | None]:
            query = select(sessions).where(*_of_stream(stream)).order_by(sessions.c.number.desc())
            if before is not None:
                query = query.where(sessions.c.number <= before.session)
            given: list[LedgerSession] = []
            left = payments_limit
            for session in _sessions(connection, query.limit(sessions_limit + 1)):
                number = session.row["number"]
                if left == 0 or len(given) == sessions_limit:
                    return given[::-1], Place(number, PAST_ALL)
                wanted = select(payments).where(payments.c.session == number)
                if before is not None and number == before.session:
                    wanted = wanted.where(payments.c.number < before.payment)
                newest = wanted.order_by(payments.c.number.desc()).limit(left + 1)
                rows = rows_of(connection, newest)
                paid = [LedgerPayment.of(row, session.row) for row in rows[:left]]
                given.append(replace(session, payments=paid[::-1]))
                if len(rows) > left:
                    return given[::-1], Place(number, paid[-1].row["number"])
                left -= len(paid)
            return given[::-1], None

        return await self._database.read(work)

    async def signer_calls(self, *, stream: str | None = None) -> AsyncIterator[SignerCall]:
        """Every call to the signer that may be billed, by session; old ones are removed as payments are."""
        async for session in self.sessions(stream=stream, payments=True):
            query = select(signings).where(signings.c.session == session.row["number"])
            rows = await self._database.rows(query.order_by(signings.c.id))
            lost = [SignerCall.of_lost(session, row) for row in rows]
            async for payment in self.payments_of(session):
                while lost and lost[0].number <= payment.row["number"]:
                    yield lost.pop(0)
                yield SignerCall.of_payment(session, payment)
            for call in lost:
                yield call

    async def nonces(self, *, stream: str | None = None) -> AsyncIterator[Row]:
        """The nonces of all payments that were sent, by recipientRandHash and first nonce."""
        order = payments.c.recipient_rand_hash, payments.c.first_nonce, payments.c.id
        query = (
            select(*order, payments.c.last_nonce, payments.c.number, sessions.c.id.label("session_id"))
            .join(sessions, sessions.c.number == payments.c.session)
            .where(payments.c.state.in_([step.value for step in _SENT]), *_of_stream(stream))
            .order_by(rand_start, *order)
            .limit(self._page)
        )
        page = query
        while True:
            found = await self._database.rows(page)
            for row in found:
                yield row
            if len(found) < self._page:
                return
            last = [found[-1][column.name] for column in order]
            page = query.where(rand_start >= last[0][:RAND_START_BYTES], tuple_(*order) > tuple_(*last))

    async def totals(self, by: Grouping) -> list[Total]:
        """Sums of all payments by UTC day of signing, orchestrator, stream id or publisher, sorted by it."""
        key = {
            Grouping.DAY: session_days.c.day,
            Grouping.ORCHESTRATOR: sessions.c.orchestrator_address,
            Grouping.STREAM: sessions.c.stream_id,
            Grouping.PUBLISHER: sessions.c.publisher,
        }[by]
        query = select(session_days, key.label("key")).join(
            sessions, sessions.c.number == session_days.c.session
        )

        def work(connection: Connection) -> list[Total]:
            totals: dict[str, Total] = {}
            for row in rows_of(connection, query):
                totals.setdefault(row["key"], Total(row["key"])).add(row)
            return [totals[name] for name in sorted(totals)]

        return await self._database.read(work)

    async def usage(
        self, by: UsedBy, every: Every, period: Period, owner: UsageOwner | None = None
    ) -> list[Usage]:
        """Who used how much, sorted by stretch of time and key, or what the owner did. Raises LedgerError."""
        return await self._database.read(lambda connection: read_usage(connection, by, every, period, owner))

    async def signed_since(self, wall_ns: int) -> list[tuple[int, Fraction, str]]:
        """What was signed since then: ends of minutes (nanoseconds since 1970), wei, publishers.

        Without payments that were withheld: no orchestrator has their tickets. Refused ones do count.
        """
        query = select(minutes).where(minutes.c.minute >= wall_ns // MINUTE).order_by(minutes.c.minute)
        return await self._database.read(
            lambda connection: [
                ((row["minute"] + 1) * MINUTE - 1, Fraction(row["value"], MAX_WIN_PROB), row["publisher"])
                for row in rows_of(connection, query)
            ]
        )

    async def signed_for(self, stream: str, request_id: str) -> Fraction:
        """Wei that were signed for one publish of a stream."""
        query = (
            select(session_days)
            .join(sessions, sessions.c.number == session_days.c.session)
            .where(sessions.c.stream == stream, sessions.c.request_id == request_id)
        )
        total = Total(request_id)
        for day in await self._database.rows(query):
            total.add(day)
        return sum(total.wei.values(), Fraction(0))

    async def _sessions(self, query: Select[Any], with_payments: bool) -> list[LedgerSession]:
        def work(connection: Connection) -> list[LedgerSession]:
            found = _sessions(connection, query)
            return _with_payments(connection, found) if with_payments else found

        return await self._database.read(work)


def _of_stream(stream: str | None) -> Iterable[ColumnElement[bool]]:
    return () if stream is None else (or_(sessions.c.stream == stream, sessions.c.stream_id == stream),)


def _sessions(connection: Connection, query: Select[Any]) -> list[LedgerSession]:
    """The sessions of a query with their sums, in its order."""
    rows = rows_of(connection, query)
    totals = {row["number"]: Total(row["id"]) for row in rows}
    days = select(session_days).where(session_days.c.session.in_(list(totals)))
    for day in rows_of(connection, days):
        totals[day["session"]].add(day)
    return [LedgerSession(row, totals[row["number"]]) for row in rows]


def _with_payments(connection: Connection, found: list[LedgerSession]) -> list[LedgerSession]:
    """The sessions, those of few payments with them, until there are enough for one transaction."""
    few: dict[int, LedgerSession] = {}
    left = MAX_PREFETCHED
    for session in found:
        if session.total.payments <= left:
            left -= session.total.payments
            few[session.row["number"]] = replace(session, payments=[], complete=True)
    query = select(payments).where(payments.c.session.in_(list(few)))
    for row in rows_of(connection, query.order_by(payments.c.session, payments.c.number)):
        session = few[row["session"]]
        session.payments.append(LedgerPayment.of(row, session.row))
    return [few.get(session.row["number"], session) for session in found]
