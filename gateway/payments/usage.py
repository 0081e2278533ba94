"""Who used how much, from the ledger's sums: for bills to customers, exact in wei.

A payment counts on the UTC day on which it was signed, a session's seconds on the day on which it ended.
Spent is what orchestrators may have: what they credited, and tickets that they got and did not credit.
Charged is that times the mark-up that was the customer's when the session was opened, else times everybody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Any

from sqlalchemy import ColumnElement, Connection, or_, select

from gateway import money
from gateway.payments.books import day_of
from gateway.payments.database import rows_of
from gateway.payments.schema import session_days, sessions
from gateway.payments.steps import Outcome
from gateway.payments.ticket import MAX_WIN_PROB

SPENT = (Outcome.CREDITED, Outcome.HANDED_OUT, Outcome.UNCERTAIN)
Row = Mapping[str, Any]


class UsedBy(StrEnum):
    """What usage is grouped by. A token stands for itself by its digest, as in the log."""

    CUSTOMER = "customer"
    TOKEN = "token"  # noqa: S105 (a word)
    PUBLISHER = "publisher"
    APP = "app"
    ORCHESTRATOR = "orchestrator"
    STREAM = "stream"


class Every(StrEnum):
    """How long a row of usage is."""

    DAY = "day"
    MONTH = "month"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Period:
    """From the first day to the last, both included; None is open."""

    first: date | None = None
    last: date | None = None

    def names(self) -> tuple[str, str]:
        """As days are written in the ledger."""
        return str(self.first or date.min), str(self.last or date.max)

    def wall_ns(self) -> tuple[int, int]:
        """The first nanosecond of the wall clock, and the one after the last."""
        first = 0 if self.first is None else _start_ns(self.first)
        return first, 2**63 - 1 if self.last is None else _start_ns(self.last + timedelta(days=1))


@dataclass(frozen=True, slots=True)
class UsageOwner:
    """Whose sessions are meant: those of a publisher, and those for a customer where it has a name."""

    publisher: str
    customer: str = ""

    def condition(self) -> ColumnElement[bool]:
        published = sessions.c.publisher == self.publisher
        return or_(published, sessions.c.customer == self.customer) if self.customer else published


@dataclass(slots=True)
class Usage:
    """What one customer, or whatever usage is grouped by, used in one stretch of time."""

    key: str
    period: str
    streams: set[str] = field(default_factory=set)
    sessions: set[int] = field(default_factory=set)
    payments: int = 0
    seconds: Fraction = Fraction(0)
    units: int = 0
    """What was spent, in 1/(2^256 - 1) wei."""
    marked_units: int = 0
    """That of it which has a mark-up of its own, and what this makes of it."""
    charged_units: Fraction = Fraction(0)

    @property
    def wei(self) -> Fraction:
        return Fraction(self.units, MAX_WIN_PROB)

    def charged(self, markup: Fraction) -> Fraction:
        """Wei that are charged, where `markup` is everybody's."""
        return ((self.units - self.marked_units) * markup + self.charged_units) / MAX_WIN_PROB

    def spend(self, units: int, markup: Fraction | None) -> None:
        """Add what a session spent, with the mark-up that it has of its own."""
        self.units += units
        if markup is not None:
            self.marked_units += units
            self.charged_units += units * markup

    def row(self, markup: Fraction = Fraction(1)) -> dict[str, Any]:
        """For tables and JSON: sums are rounded towards zero. `markup` is everybody's."""
        return {
            "key": self.key,
            "period": self.period,
            "streams": len(self.streams),
            "sessions": len(self.sessions),
            "seconds": money.decimal(self.seconds),
            "payments": self.payments,
            "spent_wei": money.whole_wei(self.wei),
            "charged_wei": money.whole_wei(self.charged(markup)),
        }


_OF_SESSION = (
    sessions.c.publisher,
    sessions.c.customer,
    sessions.c.markup,
    sessions.c.app,
    sessions.c.orchestrator_address,
    sessions.c.stream_id,
    sessions.c.request_id,
)
_OF_END = (sessions.c.price, sessions.c.owed, sessions.c.closed_wall_ns)


def read_usage(
    connection: Connection, by: UsedBy, every: Every, period: Period, owner: UsageOwner | None = None
) -> list[Usage]:
    """The usage of a period, sorted by stretch of time and key; with an owner its own only."""
    first_day, last_day = period.names()
    first_ns, after_ns = period.wall_ns()
    paid = (
        select(session_days, *_OF_SESSION)
        .join(sessions, sessions.c.number == session_days.c.session)
        .where(session_days.c.day.between(first_day, last_day))
    )
    ended = select(sessions.c.number.label("session"), *_OF_SESSION, *_OF_END).where(
        sessions.c.closed_wall_ns >= first_ns, sessions.c.closed_wall_ns < after_ns
    )
    if owner is not None:
        paid, ended = paid.where(owner.condition()), ended.where(owner.condition())
    return sums(rows_of(connection, paid), rows_of(connection, ended), by, every)


def sums(paid: Iterable[Row], ended: Iterable[Row], by: UsedBy, every: Every) -> list[Usage]:
    """`paid` are days of sessions, `ended` sessions that were closed, both with their session's columns."""
    found: dict[tuple[str, str], Usage] = {}

    def usage(row: Row, day: str) -> Usage:
        period, key = _period(day, every), _key(row, by)
        one = found.setdefault((period, key), Usage(key, period))
        one.streams.add(row["request_id"])
        one.sessions.add(row["session"])
        return one

    for row in paid:
        one = usage(row, row["day"])
        one.payments += row["payments"]
        one.spend(sum(row[outcome.value] for outcome in SPENT), row["markup"])
    for row in ended:
        if row["owed"] is not None and row["price"]:
            usage(row, day_of(row["closed_wall_ns"])).seconds += row["owed"] / row["price"]
    return [found[key] for key in sorted(found)]


def _key(row: Row, by: UsedBy) -> str:
    kind, _, name = row["publisher"].partition(" ")
    match by:
        case UsedBy.CUSTOMER:
            return str(row["customer"])
        case UsedBy.TOKEN:
            return name if kind == by else ""
        case UsedBy.PUBLISHER:
            return str(row["publisher"])
        case UsedBy.APP:
            return str(row["app"])
        case UsedBy.ORCHESTRATOR:
            return str(row["orchestrator_address"])
        case UsedBy.STREAM:
            return str(row["stream_id"])


def _period(day: str, every: Every) -> str:
    match every:
        case Every.DAY:
            return day
        case Every.MONTH:
            return day[:7]
        case Every.ALL:
            return ""


def _start_ns(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp()) * 10**9
