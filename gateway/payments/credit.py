"""How long a session's credit lasts, and whether a signer can still bill what is not paid yet."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from gateway import money
from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.balance import Balance
from gateway.payments.billing import BALANCE_IN_TICKETS, Billing
from gateway.payments.payment import MAX_TICKETS
from gateway.payments.schedule import Schedule
from gateway.payments.timebase import NANOSECONDS

PARAMS_LIFE = 40 * 12
"""Seconds for which ticket params hold: orchestrators issue them 40 blocks of 12 s ahead."""


@dataclass(frozen=True, slots=True)
class Credit:
    """What the signer billed, what the orchestrator holds, and when the next payment is due.

    Times are nanoseconds of a monotonic clock.
    """

    billing: Billing
    balance: Balance
    schedule: Schedule

    def enough_until(self, now: int) -> int:
        """When the credit falls to the opening and one interval.

        More is not signed for: it is lost where the job ends, and the signer bills the time later.
        """
        return self.falls_to(self.billing.rules.opening + Fraction(self.schedule.interval, NANOSECONDS), now)

    def falls_to(self, seconds: Fraction, now: int) -> int:
        """When the credit is no more than so many seconds, if nothing is credited until then."""
        left = self.balance.seconds_left(now) or Fraction(0)
        return now + int((left - seconds) * NANOSECONDS)

    def lasts(self, paid_until: int) -> bool:
        """Whether the credit at the last call of the signer lasts until the next one."""
        one_interval = money.fee(Fraction(self.schedule.interval, NANOSECONDS), self.billing.price)
        return self.balance.left(paid_until) >= one_interval

    def payable(self, info: OrchestratorInfo, now: int) -> bool:
        """Whether a signer may still pay the unbilled time at once."""
        return self.billing.unbilled_tickets(info, now) <= MAX_TICKETS + BALANCE_IN_TICKETS

    def surely_payable(self, info: OrchestratorInfo, now: int) -> bool:
        """Whether it can, whatever balance it keeps."""
        return self.billing.unbilled_tickets(info, now) <= MAX_TICKETS - BALANCE_IN_TICKETS

    def first_payment_lasts(self, info: OrchestratorInfo, now: int) -> bool:
        """Whether a job that starts now with the first payment can be paid on."""
        next_payment = now + self.schedule.interval
        return self.billing.unbilled(now) < PARAMS_LIFE and self.surely_payable(info, next_payment)
