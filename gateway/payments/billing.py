"""What a signer may bill: its rules, applied to what it has signed so far.

The first call (a null state) is billed the opening, a later one the time since the last, at the session's
first price, by some rules in whole seconds. Payments are whole tickets: their value above the fee is kept as
the signer's balance and lowers the next bill.
"""

from __future__ import annotations

from fractions import Fraction

from gateway import money
from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.payment import MAX_TICKETS, Payment, PaymentMismatch
from gateway.payments.signing_rules import PIXEL_RULES, SigningRules
from gateway.payments.timebase import NANOSECONDS
from gateway.payments.whole_seconds import WholeSeconds

PRELOAD = PIXEL_RULES.opening
"""Seconds that a signer bills when a job's session opens."""
BALANCE_IN_TICKETS = 2
"""A signer's balance is always below the value of this many tickets."""
MAX_NONCES = 600
"""The most tickets that an orchestrator takes on one recipientRandHash."""
CLOCK_STEP = 5
"""Seconds by which a signer's clock may jump ahead during a session."""
CLOCK_DRIFT = Fraction(1, 1000)
"""By how much it may run faster than ours."""


def first_payment(price: Fraction, ticket_ev: Fraction, opening: int = PRELOAD) -> Fraction:
    """What the first payment costs, in wei: `opening` seconds in whole tickets, at least one."""
    return -(-max(opening * price, ticket_ev) // ticket_ev) * ticket_ev


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

    def __init__(self, rules: SigningRules = PIXEL_RULES) -> None:
        self.rules = rules
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
        self.overpaid = Fraction(0)
        """Wei that were billed for time that had not passed, as whole seconds are billed."""
        self.largest_ev = Fraction(0)
        self.last_nonce = 0
        self.last_hash = b""
        """Of the newest payment: its recipientRandHash."""
        self._clock = WholeSeconds()

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
            return first_payment(price, ev, self.rules.opening)
        total = max_total(self.first, self._seconds(now), self.price, max(self.largest_ev, ev))
        return max(ev, min(total - self.total, MAX_TICKETS * ev))

    def check(self, payment: Payment, info: OrchestratorInfo, now: int) -> None:
        """Raise PaymentMismatch unless it is what was asked for and bills no more than is tolerated."""
        last_nonce = self.last_nonce if payment.recipient_rand_hash == self.last_hash else 0
        payment.check(info, last_nonce)
        if not self.payments:
            most = first_payment(info.price or Fraction(0), payment.ticket_ev, self.rules.opening)
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
        elif self.rules.whole_seconds:
            passed = self.unbilled(self.asked_at)
            self.overpaid += money.fee(-(-passed // 1) - passed, self.price)
        self.payments += 1
        self.total += payment.value
        self.largest_ev = max(self.largest_ev, payment.ticket_ev)
        self.last_nonce, self.last_hash = payment.last_nonce, payment.recipient_rand_hash
        self.billed_until = self.asked_at

    def answered(self, now: int) -> None:
        """The signer's payment came."""
        self._clock.answered(self.asked_at, now)

    def next_call(self, earliest: int) -> int:
        """When the signer is best called, at `earliest` or within a second after it."""
        return self._clock.next_call(earliest) if self.rules.whole_seconds else earliest

    def overbilled(self, now: int) -> Fraction:
        """What the signer billed beyond the time that passed, in wei; 0 or less where nothing."""
        seconds = signer_seconds(self._seconds(now))
        return self.total - max_total(self.first, seconds, self.price, self.largest_ev)

    def unbilled(self, now: int) -> Fraction:
        """Seconds that no payment covers yet."""
        return Fraction(now - self.billed_until, NANOSECONDS)

    def unbilled_tickets(self, info: OrchestratorInfo, now: int) -> Fraction:
        """How many tickets on `info` the unbilled time needs; 0 before the first payment."""
        seconds = self.unbilled(now)
        if self.rules.whole_seconds:
            seconds = Fraction(-(-seconds // 1))
        return money.fee(seconds, self.price) / info.ticket_ev if info.ticket_ev else Fraction(0)

    def nonces_left(self, info: OrchestratorInfo) -> int:
        """How many tickets can still be made on `info`'s params."""
        same = info.message.ticket_params.recipient_rand_hash == self.last_hash
        return MAX_NONCES - (self.last_nonce if same else 0)

    def _seconds(self, now: int) -> Fraction:
        """The most that the signer can have counted: each call after the first may be rounded up."""
        opened_at = now if self.opened_at is None else self.opened_at
        return Fraction(now - opened_at, NANOSECONDS) + (self.payments if self.rules.whole_seconds else 0)
