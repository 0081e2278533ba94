"""What a signer may bill: its rules, applied to what it has signed so far.

The first call (a null state) is billed the preload, a later one the time since the last, at the session's
first price. Payments are whole tickets: their value above the fee is kept as the signer's balance and lowers
the next bill.
"""

from __future__ import annotations

from fractions import Fraction

from gateway import money
from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.payment import MAX_TICKETS, Payment, PaymentMismatch
from gateway.payments.timebase import NANOSECONDS

PRELOAD = 60
"""Seconds that a signer bills when a session opens."""
BALANCE_IN_TICKETS = 2
"""A signer's balance is always below the value of this many tickets."""
MAX_NONCES = 600
"""The most tickets that an orchestrator takes on one recipientRandHash."""
CLOCK_STEP = 5
"""Seconds by which a signer's clock may jump ahead during a session."""
CLOCK_DRIFT = Fraction(1, 1000)
"""By how much it may run faster than ours."""


def first_payment(price: Fraction, ticket_ev: Fraction) -> Fraction:
    """What the first payment costs, in wei: the preload in whole tickets, at least one."""
    return -(-max(PRELOAD * price, ticket_ev) // ticket_ev) * ticket_ev


def signer_seconds(seconds: Fraction) -> Fraction:
    """The most that a signer's clock may show for `seconds` of ours."""
    return seconds * (1 + CLOCK_DRIFT) + CLOCK_STEP


def max_total(first: Fraction, seconds: Fraction, price: Fraction, largest_ev: Fraction) -> Fraction:
    """The most that a session can cost in `seconds`, in wei, where its first payment was worth `first`."""
    return first + money.fee(seconds, price) + BALANCE_IN_TICKETS * largest_ev


def max_tolerated(first: Fraction, seconds: Fraction, price: Fraction, largest_ev: Fraction) -> Fraction:
    """The same, where the signer's clock was set during the session.

    Ahead, it bills the step; back, another preload. In sum that may cost as much as to replace the job,
    which is another first payment.
    """
    return max_total(2 * first, seconds * (1 + CLOCK_DRIFT), price, largest_ev)


class Billing:
    """What one session was billed and can be billed. Exact wei; times are monotonic nanoseconds."""

    def __init__(self) -> None:
        self.payments = 0
        """How many the signer has made so far."""
        self.price = Fraction(0)
        """Wei per second, fixed by the first payment."""
        self.asked_at = 0
        """When the signer was last called: its next payment covers the time up to then."""
        self.opened_at: int | None = None
        """When the signer was called for the first time."""
        self.billed_until = 0
        self.first = Fraction(0)
        """Wei of the first payment."""
        self.total = Fraction(0)
        """Wei of all payments."""
        self.largest_ev = Fraction(0)
        self.last_nonce = 0
        self.last_hash = b""
        """Of the newest payment: its recipientRandHash."""

    def ask(self, now: int) -> None:
        """The signer is called now."""
        if self.opened_at is None:
            self.opened_at = now
        self.asked_at = now

    def max_due(self, info: OrchestratorInfo, now: int) -> Fraction:
        """The most that a payment on `info` can be worth now, in wei."""
        price, ev = info.price, info.ticket_ev
        assert price and ev
        if not self.payments:
            return first_payment(price, ev)
        total = max_total(self.first, self._seconds(now), self.price, max(self.largest_ev, ev))
        return max(ev, min(total - self.total, MAX_TICKETS * ev))

    def check(self, payment: Payment, info: OrchestratorInfo, now: int) -> None:
        """Raise PaymentMismatch unless it is what was asked for and bills no more than is tolerated."""
        last_nonce = self.last_nonce if payment.recipient_rand_hash == self.last_hash else 0
        payment.check(info, last_nonce)
        if not self.payments:
            most = first_payment(info.price or Fraction(0), payment.ticket_ev)
        else:
            ev = max(self.largest_ev, payment.ticket_ev)
            most = max_tolerated(self.first, self._seconds(now), self.price, ev)
        if self.total + payment.value > most:
            raise PaymentMismatch(
                f"the signer billed {money.whole_wei(self.total + payment.value)} wei in total, "
                f"where at most {money.whole_wei(most)} can be due"
            )

    def signed(self, payment: Payment, info: OrchestratorInfo) -> None:
        """The signer made this payment on `info`; it was checked."""
        if not self.payments:
            self.price = info.price or Fraction(0)
            self.first = payment.value
        self.payments += 1
        self.total += payment.value
        self.largest_ev = max(self.largest_ev, payment.ticket_ev)
        self.last_nonce, self.last_hash = payment.last_nonce, payment.recipient_rand_hash
        self.billed_until = self.asked_at

    def overbilled(self, now: int) -> Fraction:
        """What the signer billed beyond the time that passed, in wei; 0 or less where nothing."""
        seconds = signer_seconds(self._seconds(now))
        return self.total - max_total(self.first, seconds, self.price, self.largest_ev)

    def unbilled(self, now: int) -> Fraction:
        """Seconds that no payment covers yet."""
        return Fraction(now - self.billed_until, NANOSECONDS)

    def unbilled_tickets(self, info: OrchestratorInfo, now: int) -> Fraction:
        """How many tickets on `info` the unbilled time needs; 0 before the first payment."""
        return money.fee(self.unbilled(now), self.price) / info.ticket_ev if info.ticket_ev else Fraction(0)

    def nonces_left(self, info: OrchestratorInfo) -> int:
        """How many tickets can still be made on `info`'s params."""
        same = info.message.ticket_params.recipient_rand_hash == self.last_hash
        return MAX_NONCES - (self.last_nonce if same else 0)

    def _seconds(self, now: int) -> Fraction:
        opened_at = now if self.opened_at is None else self.opened_at
        return Fraction(now - opened_at, NANOSECONDS)
