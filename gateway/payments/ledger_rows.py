"""What the ledger says of a session, a payment, a call to the signer, and of many together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from fractions import Fraction
from typing import Any

from gateway.payments.books import signed_wall_ns, value_of
from gateway.payments.steps import OUTCOMES, Outcome, Step, read_course
from gateway.payments.ticket import MAX_WIN_PROB

Row = dict[str, Any]


class Grouping(StrEnum):
    """What sums are grouped by."""

    DAY = "day"
    ORCHESTRATOR = "orchestrator"
    STREAM = "stream"
    PUBLISHER = "publisher"


@dataclass(slots=True)
class Total:
    """Sums over the payments with the same `key`; `units` by outcome, in 1/(2^256 - 1) wei."""

    key: str
    sessions: set[int] = field(default_factory=set)
    payments: int = 0
    tickets: int = 0
    units: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))

    def add(self, day: Mapping[str, Any]) -> None:
        """Add one day of one session."""
        self.sessions.add(day["session"])
        self.payments += day["payments"]
        self.tickets += day["tickets"]
        for outcome in Outcome:
            self.units[outcome] += day[outcome.value]

    @property
    def wei(self) -> dict[Outcome, Fraction]:
        """The exact sums in wei."""
        return {outcome: Fraction(units, MAX_WIN_PROB) for outcome, units in self.units.items()}


@dataclass(frozen=True, slots=True)
class LedgerPayment:
    """One payment. `row` has its columns, beside what its session and its tickets make of them."""

    row: Row

    @classmethod
    def of(cls, columns: Mapping[str, Any], session: Row) -> LedgerPayment:
        row = dict(columns)
        return cls(
            {
                **row,
                "session_id": session["id"],
                # the first payment starts the job, which has no id before
                "manifest_id": session["manifest_id"] if row["number"] > 1 else "",
                "price": session["price"] if row["price"] is None else row["price"],
                "recipient_rand_hash": row["recipient_rand_hash"].hex(),
                "ticket_ev": Fraction(row["face_value"] * row["win_prob"], MAX_WIN_PROB),
                "value": Fraction(value_of(row), MAX_WIN_PROB),
            }
        )

    @property
    def outcome(self) -> Outcome:
        return OUTCOMES[Step(self.row["state"])]

    @property
    def value(self) -> Fraction:
        """The expected value of its tickets in wei."""
        return Fraction(self.row["value"])

    @property
    def steps(self) -> list[Row]:
        """Every step in order, with the times of both clocks in nanoseconds; the first is `intended`."""
        wall, monotonic = self.row["wall_ns"], self.row["monotonic_ns"]
        steps = [(Step.INTENDED, 0, "")]
        steps += [(one.step, one.after_ms * 10**6, one.detail) for one in read_course(self.row["course"])]
        return [
            {"step": step.value, "wall_ns": wall + after, "monotonic_ns": monotonic + after, "detail": detail}
            for step, after, detail in steps
        ]

    @property
    def signed_at(self) -> int:
        """Nanoseconds of the wall clock."""
        return signed_wall_ns(self.row)


@dataclass(frozen=True, slots=True)
class LedgerSession:
    """One session. `total` is over all of its payments, whether they were read or not."""

    row: Row
    total: Total
    payments: list[LedgerPayment] = field(default_factory=list)
    complete: bool = False
    """Whether `payments` are all that are kept."""

    @property
    def closed(self) -> Row | None:
        """When and why it was closed; None while it is open."""
        if self.row["closed_wall_ns"] is None:
            return None
        names = ("reason", "detail", "owed")
        return {"wall_ns": self.row["closed_wall_ns"], **{name: self.row[name] for name in names}}


class Call(StrEnum):
    """What a call to the signer gave."""

    SIGNED = "signed"
    WITHHELD = "withheld"
    """A payment that failed our own checks and was not sent."""
    LOST = "lost"
    """Nothing that could be used: the signer may have made a payment, or not."""


@dataclass(frozen=True, slots=True)
class SignerCall:
    """A call to the signer that may be billed: its payment's worth, or at least a bound. Exact wei."""

    session: LedgerSession
    number: int
    wall_ns: int
    call: Call
    tickets: int | None
    value: Fraction | None
    most: Fraction | None
    detail: str

    @classmethod
    def of_payment(cls, session: LedgerSession, payment: LedgerPayment) -> SignerCall:
        withheld = payment.row["state"] == Step.WITHHELD
        return cls(
            session,
            payment.row["number"],
            payment.signed_at,
            Call.WITHHELD if withheld else Call.SIGNED,
            payment.row["tickets"],
            payment.value,
            payment.value,
            payment.steps[-1]["detail"] if withheld else "",
        )

    @classmethod
    def of_lost(cls, session: LedgerSession, row: Mapping[str, Any]) -> SignerCall:
        at, detail = row["wall_ns"], row["detail"]
        return cls(session, row["number"], at, Call.LOST, None, None, row["most"], detail)


def utc(wall_ns: int) -> str:
    """A time of the wall clock as RFC 3339, to the millisecond."""
    seconds, rest = divmod(wall_ns, 10**9)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 10**6:03d}Z"
