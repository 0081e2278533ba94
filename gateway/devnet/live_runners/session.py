"""A reserved session: what it owes, its channels, and the requests that end with it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from gateway.devnet.live_runners.price import UNITS_PER_SECOND, RunnerPrice
from gateway.devnet.orchestrator.session import Session

LONGEST_GAP = 3600
"""Seconds between two debits at most: a session that was not debited for longer ends."""


@dataclass(slots=True, eq=False)
class LiveSession:
    """`account` is its balance, None where it is free; `began_ns` is when it was reserved.

    The price is the one of the challenge that was paid, whatever the runner costs later.
    """

    id: str
    price: RunnerPrice | None
    account: Session | None
    began_ns: int
    token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    """What the app needs to act for the session."""
    channels: dict[str, str] = field(default_factory=dict)
    """The name that the app gave each of its channels, by the name on the server."""
    cut: set[Callable[[], None]] = field(default_factory=set)
    """Ends each of its requests that are open at the app."""
    charged: int = 0
    """Units debited so far."""
    ended: str = ""
    """Why it was released; empty while it is reserved."""

    @property
    def metered(self) -> bool:
        return self.account is not None and self.price is not None and self.price.unit in UNITS_PER_SECOND

    def due(self, now_ns: int, rate: Fraction) -> int:
        """Whole units since the last debit, at `rate` times the time that passed."""
        assert self.price is not None
        elapsed = Fraction(now_ns - self.began_ns, 10**9) * rate
        return max(0, int(elapsed * UNITS_PER_SECOND[self.price.unit]) - self.charged)

    def debit(self, units: int) -> bool:
        """Debit so many units even below zero, as go-livepeer does; False where it was not covered."""
        assert self.account is not None
        assert self.price is not None
        self.charged += units
        self.account.debit(Fraction(units * self.price.wei))
        return self.account.balance >= 0

    def charge(self, units: int) -> bool:
        """Debit so many units where that is covered, as a node does; False where it was not."""
        assert self.account is not None
        assert self.price is not None
        if units > LONGEST_GAP or self.account.balance < units * self.price.wei:
            return False
        return self.debit(units)
