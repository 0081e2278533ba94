"""One job's credit with its orchestrator: what was credited minus the fee for the time that it ran."""

from __future__ import annotations

from fractions import Fraction

from gateway import money
from gateway.payments.payment import Payment
from gateway.payments.timebase import NANOSECONDS


class Balance:
    """Our estimate of one job's credit. Exact wei; times are monotonic nanoseconds."""

    def __init__(self) -> None:
        self.price = Fraction(0)
        """Wei per second."""
        self.accepted = 0
        self.tickets = 0
        self.credited = Fraction(0)
        """The expected value of all tickets that were credited."""
        self.started_at: int | None = None
        self.ended_at: int | None = None
        self.last_accepted_at: int | None = None

    def start(self, price: Fraction, now: int) -> None:
        """The job runs from now on, at `price` wei per second."""
        self.price = price
        self.started_at = now

    def credit(self, payment: Payment, now: int) -> None:
        """The orchestrator credited this payment."""
        self.accepted += 1
        self.tickets += payment.tickets
        self.credited += payment.value
        self.last_accepted_at = now

    def end(self, now: int) -> None:
        """The job is over: its fee grows no further."""
        if self.ended_at is None:
            self.ended_at = now

    def elapsed(self, now: int) -> Fraction:
        """Seconds that the job ran."""
        if self.started_at is None:
            return Fraction(0)
        until = now if self.ended_at is None else self.ended_at
        return Fraction(max(0, until - self.started_at), NANOSECONDS)

    def owed(self, now: int) -> Fraction:
        """The fee for the time that the job ran."""
        return money.fee(self.elapsed(now), self.price)

    def left(self, now: int) -> Fraction:
        """The credit that is left in wei; below 0 where the fee is more than what was credited."""
        return self.credited - self.owed(now)

    def seconds_left(self, now: int) -> Fraction | None:
        """The credit that is left in seconds of stream; None before the job runs."""
        return self.left(now) / self.price if self.started_at is not None else None
