"""Balance and counts of one sender's stream, and the audit over all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

ZERO = Fraction(0)


@dataclass(slots=True)
class PaymentCounts:
    """Counts of payments: `rejected` and `redelivered` never count the same delivery."""

    payments: int = 0
    tickets: int = 0
    winning_tickets: int = 0
    rejected: int = 0
    redelivered: int = 0
    duplicate_nonces: int = 0
    stale_params: int = 0


@dataclass(slots=True)
class Session:
    """Exact wei. `price` (wei per second) is what it is debited at, that of the payment which began it.

    `fixed_price` is what refreshed ticket params are issued at, None until it is fixed.
    `newest_answer` is the issue number of the newest ticket params given in an answer to a payment.
    """

    sender: str
    manifest_id: str
    price: Fraction | None = None
    fixed_price: Fraction | None = None
    credited: Fraction = ZERO
    debited: Fraction = ZERO
    min_balance: Fraction | None = None
    newest_answer: int = 0
    ended: bool = False
    counts: PaymentCounts = field(default_factory=PaymentCounts)

    @property
    def balance(self) -> Fraction:
        return self.credited - self.debited

    def credit(self, wei: Fraction) -> None:
        self.credited += wei
        self._watch()

    def debit(self, wei: Fraction) -> None:
        self.debited += wei
        self._watch()

    def _watch(self) -> None:
        balance = self.balance
        self.min_balance = balance if self.min_balance is None else min(self.min_balance, balance)


class Sessions:
    """All sessions since the start, also ended ones: a devnet has few."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[str, str], Session] = {}
        self._known: set[str] = set()
        """Senders that have had a balance."""
        self.unattributed = PaymentCounts()
        """Payments refused before their session was known."""

    def open(self, sender: str, manifest_id: str) -> Session:
        """The session of that sender and id; made where there is none."""
        return self._sessions.setdefault((sender, manifest_id), Session(sender, manifest_id))

    def know(self, sender: str) -> None:
        """Note that a sender has a balance."""
        self._known.add(sender)

    def fix_price(self, session: Session, price: Fraction) -> None:
        """Fix a session's price, once. As in go-livepeer, nothing is fixed for a sender without a balance."""
        if session.sender in self._known and session.fixed_price is None:
            session.fixed_price = price

    def find(self, sender: str, manifest_id: str) -> Session | None:
        return self._sessions.get((sender, manifest_id))

    def end(self, manifest_id: str) -> None:
        """Note that the stream of that id has ended, or never began."""
        for session in self._sessions.values():
            if session.manifest_id == manifest_id:
                session.ended = True

    def audit(self) -> dict[str, Any]:
        """The audit's JSON. Wei are summed exactly and rounded towards zero at the end."""
        sessions = list(self._sessions.values())
        return {
            **_counts([self.unattributed, *(session.counts for session in sessions)]),
            **_money(sessions),
            "sessions": {
                session.manifest_id: {
                    **asdict(session.counts),
                    **_money([session]),
                    "sender": session.sender,
                    "ended": session.ended,
                }
                for session in sessions
            },
        }


def _counts(all_counts: Iterable[PaymentCounts]) -> dict[str, int]:
    total = PaymentCounts()
    for counts in all_counts:
        for name, value in asdict(counts).items():
            setattr(total, name, getattr(total, name) + value)
    return asdict(total)


def _money(sessions: list[Session]) -> dict[str, str]:
    credited = sum((session.credited for session in sessions), ZERO)
    debited = sum((session.debited for session in sessions), ZERO)
    lowest = [session.min_balance for session in sessions if session.min_balance is not None]
    return {
        "credited_wei": str(int(credited)),
        "debited_wei": str(int(debited)),
        "balance_wei": str(int(credited - debited)),
        "min_balance_wei": str(int(min(lowest, default=ZERO))),
    }
