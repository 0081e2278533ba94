"""What a signer may bill: its rules, applied to what it has signed so far.

A null state is billed the preload; later calls the time since the last one, at the session's first price.
Tickets are whole, so what they are worth too much is the signer's balance, which the next call uses up.
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
"""A signer's balance stays below the worth of so many tickets."""
MAX_NONCES = 600
"""An orchestrator takes no more tickets than this on one recipientRandHash."""
CLOCK_STEP = 5
"""Seconds by which a signer's clock may be set forward while a session lives."""
CLOCK_DRIFT = Fraction(1, 1000)
"""The share by which it may be faster than ours."""


def first_payment(price: Fraction, ticket_ev: Fraction) -> Fraction:
    """What a null state costs, in wei: the preload in whole tickets, one of them at least."""
    return -(-max(PRELOAD * price, ticket_ev) // ticket_ev) * ticket_ev


def by_another_clock(seconds: Fraction) -> Fraction:
    """The most that so many seconds of our clock may be by a signer's."""
    return seconds * (1 + CLOCK_DRIFT) + CLOCK_STEP


def most_in_all(first: Fraction, seconds: Fraction, price: Fraction, largest_ev: Fraction) -> Fraction:
    """The most that a session can cost in `seconds`, in wei, after its first payment was worth `first`."""
    return first + money.fee(seconds, price) + BALANCE_IN_TICKETS * largest_ev


class Billing:
    """One session's bill. Exact wei; times are monotonic nanoseconds."""

    def __init__(self) -> None:
        self.payments = 0
        """How many the signer has made."""
        self.price = Fraction(0)
        """Wei per second: the session's, fixed by its first payment."""
        self.asked_at = 0
        """When the signer was last asked: what it bills ends there."""
        self._opened_at: int | None = None
        self._billed_until = 0
        self._first = Fraction(0)
        self._in_all = Fraction(0)
        self._largest_ev = Fraction(0)
        self._last_nonce = 0
        self._last_hash = b""

    def ask(self, now: int) -> None:
        """The signer is asked now."""
        if self._opened_at is None:
            self._opened_at = now
        self.asked_at = now

    def due_at_most(self, info: OrchestratorInfo, now: int) -> Fraction:
        """The most that a payment can be worth that is asked for now."""
        price, ev = info.price, info.ticket_ev
        assert price and ev
        if not self.payments:
            return first_payment(price, ev)
        in_all = most_in_all(self._first, self._seconds(now), self.price, max(self._largest_ev, ev))
        return max(ev, min(in_all - self._in_all, MAX_TICKETS * ev))

    def check(self, payment: Payment, info: OrchestratorInfo, now: int) -> None:
        """PaymentMismatch unless the payment is what was asked for, and no more than the time that passed."""
        last_nonce = self._last_nonce if payment.recipient_rand_hash == self._last_hash else 0
        payment.check(info, last_nonce)
        if not self.payments:
            most = first_payment(info.price or Fraction(0), payment.ticket_ev)
        else:
            seconds = by_another_clock(self._seconds(now))
            most = most_in_all(self._first, seconds, self.price, max(self._largest_ev, payment.ticket_ev))
        if self._in_all + payment.value > most:
            raise PaymentMismatch(
                f"the signer billed {money.whole_wei(self._in_all + payment.value)} wei in all, "
                f"where at most {money.whole_wei(most)} can be due"
            )

    def signed(self, payment: Payment, info: OrchestratorInfo) -> None:
        """The signer made this payment, which was checked, on `info`."""
        if not self.payments:
            self.price = info.price or Fraction(0)
            self._first = payment.value
        self.payments += 1
        self._in_all += payment.value
        self._largest_ev = max(self._largest_ev, payment.ticket_ev)
        self._last_nonce, self._last_hash = payment.last_nonce, payment.recipient_rand_hash
        self._billed_until = self.asked_at

    def unbilled(self, now: int) -> Fraction:
        """Seconds that no payment was made for yet."""
        return Fraction(now - self._billed_until, NANOSECONDS)

    def unbilled_tickets(self, info: OrchestratorInfo, now: int) -> Fraction:
        """How many tickets on `info` the unbilled time needs; 0 before the first payment."""
        return money.fee(self.unbilled(now), self.price) / info.ticket_ev if info.ticket_ev else Fraction(0)

    def nonces_left(self, info: OrchestratorInfo) -> int:
        """How many tickets can still be made on `info`'s params."""
        same = info.message.ticket_params.recipient_rand_hash == self._last_hash
        return MAX_NONCES - (self._last_nonce if same else 0)

    def _seconds(self, now: int) -> Fraction:
        opened_at = now if self._opened_at is None else self._opened_at
        return Fraction(now - opened_at, NANOSECONDS)
