"""Reads the ledger: sessions with their payments, each payment's outcome, sums in exact wei."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from fractions import Fraction
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select

from gateway.payments.database import Database
from gateway.payments.schema import Step, payments, sessions, steps

SESSIONS_AT_ONCE, PAYMENTS_AT_ONCE = 100, 2000
"""About how many are read together: the last session of a group may have more payments."""
Row = dict[str, Any]


class Outcome(StrEnum):
    """What happened to a payment, as far as the ledger knows."""

    CREDITED = "credited"
    REFUSED = "refused"
    UNCERTAIN = "uncertain"
    """It was sent and no answer came: it may have been credited."""
    UNSPENT = "unspent"
    """It was signed and never sent: nobody can redeem it."""

    @classmethod
    def of(cls, steps_taken: Iterable[str]) -> Outcome:
        """The outcome of a payment that has these steps."""
        seen = set(steps_taken)
        if Step.CREDITED in seen:
            return cls.CREDITED
        if Step.REFUSED in seen:
            return cls.REFUSED
        return cls.UNCERTAIN if Step.DELIVERED in seen else cls.UNSPENT


class Grouping(StrEnum):
    """What sums are grouped by."""

    DAY = "day"
    ORCHESTRATOR = "orchestrator"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class LedgerPayment:
    """One payment: its row, and its steps in the order in which they were written."""

    row: Row
    steps: list[Row]

    @property
    def outcome(self) -> Outcome:
        return Outcome.of(step["step"] for step in self.steps)

    @property
    def value(self) -> Fraction:
        """The expected value of its tickets in wei."""
        return Fraction(self.row["value"])

    @property
    def signed_at(self) -> int:
        """Nanoseconds of the wall clock."""
        return int(next(step["wall_ns"] for step in self.steps if step["step"] == Step.SIGNED))


@dataclass(slots=True)
class Total:
    """Sums over the payments with the same `key`."""

    key: str
    sessions: set[str] = field(default_factory=set)
    payments: int = 0
    tickets: int = 0
    wei: dict[Outcome, Fraction] = field(default_factory=lambda: dict.fromkeys(Outcome, Fraction(0)))


@dataclass(frozen=True, slots=True)
class LedgerSession:
    """One session: its row, the steps without a payment, and its payments.

    `payments` may be the newest only; `total` is always over all of them.
    """

    row: Row
    steps: list[Row]
    payments: list[LedgerPayment]
    total: Total

    @property
    def closed(self) -> Row | None:
        """The step that closed it; None while it is open."""
        return next((step for step in self.steps if step["step"] == Step.CLOSED), None)


class LedgerReader:
    """Reads a ledger's database; somebody else may write to it meanwhile."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sessions(
        self,
        *,
        stream: str | None = None,
        newest: int | None = None,
        payments_each: int | None = None,
    ) -> AsyncIterator[LedgerSession]:
        """Sessions, oldest first: of all streams or of one (name or id), all or only the `newest`.

        `payments_each` limits how many payments of each are read, to the newest ones.
        """
        paid = func.count(payments.c.id)
        query = select(sessions.c.id, paid).outerjoin(payments, payments.c.session_id == sessions.c.id)
        if stream is not None:
            query = query.where(or_(sessions.c.stream == stream, sessions.c.stream_id == stream))
        query = query.group_by(sessions.c.id).order_by(sessions.c.wall_ns.desc(), sessions.c.id)
        async with self._database.reading() as connection:
            counted = [(row[0], row[1]) for row in await connection.execute(query.limit(newest))][::-1]
        limit = payments_each if payments_each is not None else sys.maxsize
        for group in _grouped([(session_id, count, max(0, count - limit)) for session_id, count in counted]):
            for session in await self._group(group):
                yield session

    async def _group(self, skipped: dict[str, int]) -> list[LedgerSession]:
        """The sessions with these ids, each without that many of its first payments."""
        ids = list(skipped)
        wanted = or_(*(_after(session_id, number) for session_id, number in skipped.items()))
        rows = {row["id"]: row for row in await self._rows(select(sessions).where(sessions.c.id.in_(ids)))}
        paid = await self._rows(select(payments).where(wanted).order_by(payments.c.number))
        taken = select(steps).outerjoin(payments, payments.c.id == steps.c.payment_id)
        taken = taken.where(steps.c.session_id.in_(ids), or_(payments.c.id.is_(None), wanted))
        by_payment: dict[str, list[Row]] = {row["id"]: [] for row in paid}
        others: dict[str, list[Row]] = {session_id: [] for session_id in ids}
        for step in await self._rows(taken.order_by(steps.c.id)):
            by_payment.get(step["payment_id"], others[step["session_id"]]).append(step)
        own: dict[str, list[LedgerPayment]] = {session_id: [] for session_id in ids}
        for row in paid:
            own[row["session_id"]].append(LedgerPayment(row, by_payment[row["id"]]))
        of_these = _payments_with_outcomes(steps.c.session_id.in_(ids))
        sums = await self._totals(of_these, lambda row: str(row.session_id))
        return [LedgerSession(rows[one], others[one], own[one], sums.get(one) or Total(one)) for one in ids]

    async def totals(self, by: Grouping) -> list[Total]:
        """Sums of all payments by day of signing (UTC), orchestrator or stream id; sorted by key."""
        totals = await self._totals(_payments_with_outcomes(), lambda row: _key(by, row))
        return [totals[key] for key in sorted(totals)]

    async def _totals(self, query: Select[Any], key_of: Callable[[Any], str]) -> dict[str, Total]:
        totals: dict[str, Total] = {}
        async with self._database.reading() as connection:
            async for row in await connection.stream(query):
                key = key_of(row)
                total = totals.setdefault(key, Total(key))
                total.sessions.add(row.session_id)
                total.payments += 1
                total.tickets += row.tickets
                total.wei[_outcome(row)] += row.value
        return totals

    async def signed_since(self, wall_ns: int) -> list[tuple[int, Fraction]]:
        """Signing times (wall clock, nanoseconds) and values (wei) of the payments signed since then.

        Without payments that were refused before they were sent: nobody has their tickets.
        """
        async with self._database.reading() as connection:
            recent = and_(steps.c.step == Step.SIGNED, steps.c.wall_ns >= wall_ns)
            ids = select(steps.c.payment_id).where(recent)
            query = _payments_with_outcomes(steps.c.payment_id.in_(ids))
            rows = (await connection.execute(query)).all()
        return sorted((row.signed_ns, row.value) for row in rows if row.delivered or not row.refused)

    async def _rows(self, query: Select[Any]) -> list[Row]:
        async with self._database.reading() as connection:
            return [dict(row) for row in (await connection.execute(query)).mappings()]


def _grouped(counted: Iterable[tuple[str, int, int]]) -> Iterable[dict[str, int]]:
    """Groups of about PAYMENTS_AT_ONCE payments: session ids with how many payments to skip."""
    group: dict[str, int] = {}
    size = 0
    for session_id, count, skip in counted:
        group[session_id] = skip
        size += count - skip
        if size >= PAYMENTS_AT_ONCE or len(group) >= SESSIONS_AT_ONCE:
            yield group
            group, size = {}, 0
    if group:
        yield group


def _after(session_id: str, number: int) -> ColumnElement[bool]:
    return and_(payments.c.session_id == session_id, payments.c.number > number)


def _taken(step: Step) -> ColumnElement[int]:
    return func.max(case((steps.c.step == step, 1), else_=0))


def _payments_with_outcomes(*which: ColumnElement[bool]) -> Select[Any]:
    """Each payment with its session's key columns, its signing time, and which outcome steps it has.

    `which` filters the steps, so that few of them are read: a ledger of months has millions.
    """
    taken = (
        select(
            steps.c.payment_id,
            _taken(Step.CREDITED).label("credited"),
            _taken(Step.REFUSED).label("refused"),
            _taken(Step.DELIVERED).label("delivered"),
            func.min(case((steps.c.step == Step.SIGNED, steps.c.wall_ns))).label("signed_ns"),
        )
        .where(steps.c.payment_id.is_not(None), *which)
        .group_by(steps.c.payment_id)
        .subquery()
    )
    return (
        select(
            payments.c.session_id,
            payments.c.tickets,
            payments.c.value,
            sessions.c.stream_id,
            sessions.c.orchestrator_address,
            taken,
        )
        .join(sessions, sessions.c.id == payments.c.session_id)
        .join(taken, taken.c.payment_id == payments.c.id)
    )


def _outcome(row: Any) -> Outcome:
    flags = ((Step.CREDITED, row.credited), (Step.REFUSED, row.refused), (Step.DELIVERED, row.delivered))
    return Outcome.of(step for step, taken in flags if taken)


def _key(by: Grouping, row: Any) -> str:
    match by:
        case Grouping.DAY:
            return utc(row.signed_ns)[:10]
        case Grouping.ORCHESTRATOR:
            return str(row.orchestrator_address)
        case Grouping.STREAM:
            return str(row.stream_id)


def utc(wall_ns: int) -> str:
    """A time of the wall clock as RFC 3339, to the millisecond."""
    seconds, rest = divmod(wall_ns, 10**9)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 10**6:03d}Z"
