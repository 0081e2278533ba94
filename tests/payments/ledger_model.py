"""The ledger in plain Python: lists and loops, nothing kept that can be computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction

from gateway.payments.ledger_rows import Grouping
from gateway.payments.payment import Payment
from gateway.payments.steps import Outcome

MINUTE = 60 * 10**9
SENT = ("delivered", "unknown", "credited", "handed_out", "refused")
OUTCOMES = {
    "signed": Outcome.UNSPENT,
    "withheld": Outcome.REFUSED,
    "delivered": Outcome.UNCERTAIN,
    "unknown": Outcome.UNCERTAIN,
    "credited": Outcome.CREDITED,
    "handed_out": Outcome.HANDED_OUT,
    "refused": Outcome.REFUSED,
}
PATHS = (
    ("signed",),
    ("signed", "withheld"),
    ("signed", "delivered"),
    ("signed", "delivered", "credited"),
    ("signed", "delivered", "credited", "credited"),
    ("signed", "delivered", "unknown"),
    ("signed", "delivered", "unknown", "delivered", "credited"),
    ("signed", "delivered", "refused"),
    ("signed", "delivered", "handed_out"),
    ("signed", "delivered", "handed_out", "delivered", "credited"),
)
"""The steps that payments take after the signer was asked, each from its beginning."""


@dataclass
class ModelPayment:
    made: Payment
    asked_ns: int
    signed_ns: int
    steps: list[str]
    removed: bool = False

    @property
    def state(self) -> str:
        return self.steps[-1]

    @property
    def day(self) -> str:
        return f"{datetime.fromtimestamp(self.signed_ns // 10**9, UTC):%Y-%m-%d}"

    @property
    def sent(self) -> bool:
        return any(step in SENT for step in self.steps)


@dataclass
class ModelSession:
    id: str
    stream_id: str
    orchestrator: str
    publisher: str
    payments: list[ModelPayment] = field(default_factory=list)
    lost: int = 0
    closed: str | None = None
    asked: bool = False
    """Whether the signer was asked for a payment that is not there."""


@dataclass
class LedgerModel:
    sessions: list[ModelSession] = field(default_factory=list)

    def restart(self) -> None:
        """What a start finds open is closed; a call that has no answer may have been billed."""
        for session in self.sessions:
            if session.closed is None:
                session.closed = "internal_error"
                session.lost += session.asked

    def remove(self, before_ns: int) -> int:
        removed = 0
        for session in self.sessions:
            for one in session.payments:
                unsettled = one.state in ("signed", "delivered", "unknown") and session.closed is None
                if one.asked_ns < before_ns and not unsettled and not one.removed:
                    one.removed = True
                    removed += 1
        return removed

    def sums(self, session: ModelSession) -> dict[Outcome, Fraction]:
        return _sums(session.payments)

    def totals(self, by: Grouping) -> dict[str, dict[Outcome, Fraction]]:
        groups: dict[str, list[ModelPayment]] = {}
        for session in self.sessions:
            for one in session.payments:
                key = {
                    Grouping.DAY: one.day,
                    Grouping.ORCHESTRATOR: session.orchestrator,
                    Grouping.STREAM: session.stream_id,
                    Grouping.PUBLISHER: session.publisher,
                }[by]
                groups.setdefault(key, []).append(one)
        return {key: _sums(group) for key, group in groups.items()}

    def signed_since(self, wall_ns: int) -> dict[str, Fraction]:
        """Wei by publisher: of the one that used the payment, where another had it before."""
        since, sums = wall_ns // MINUTE, dict[str, Fraction]()
        for session in self.sessions:
            for one in session.payments:
                if one.signed_ns // MINUTE >= since and one.state != "withheld":
                    sums[session.publisher] = sums.get(session.publisher, Fraction(0)) + one.made.value
        return sums

    def handed_out(self) -> dict[tuple[str, str], tuple[int, Fraction]]:
        """Tickets and their value by day and orchestrator."""
        sums: dict[tuple[str, str], tuple[int, Fraction]] = {}
        for session in self.sessions:
            for one in session.payments:
                if one.sent:
                    key = one.day, session.orchestrator
                    tickets, value = sums.get(key, (0, Fraction(0)))
                    sums[key] = tickets + one.made.tickets, value + one.made.value
        return sums


def _sums(payments: list[ModelPayment]) -> dict[Outcome, Fraction]:
    sums = dict.fromkeys(Outcome, Fraction(0))
    for one in payments:
        sums[OUTCOMES[one.state]] += one.made.value
    return sums
