"""What a signer bills, by the type of payment that it is asked for. Data only."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.payments.schedule import LONGEST_BACKOFF
from gateway.payments.timebase import NANOSECONDS
from signer_client import PaymentType


@dataclass(frozen=True, slots=True)
class SigningRules:
    """The rules for one type of payment."""

    type: PaymentType
    opening: int
    """Seconds that are billed when a session opens."""
    whole_seconds: bool = False
    """Whether each later call is billed in whole seconds, rounded up."""
    intervals: tuple[int, int] | None = None
    """Nanoseconds between payments, at least and at most; None: as the operator wants."""
    longest_backoff: int = LONGEST_BACKOFF
    """Nanoseconds between two tries at most: a small opening is soon used up."""

    def interval(self, wanted: int) -> int:
        """Nanoseconds between payments, where an operator wants so many."""
        if self.intervals is None:
            return wanted
        shortest, longest = self.intervals
        return max(shortest, min(wanted, longest))


PIXEL_RULES = SigningRules("lv2v", 60)
"""A job, or a live runner whose price is for 720p pixels."""
SECOND_RULES = SigningRules(
    "live", 10, whole_seconds=True, intervals=(NANOSECONDS, 4 * NANOSECONDS), longest_backoff=NANOSECONDS
)
"""A live runner whose price is for seconds."""


def rules_for(payment_type: str) -> SigningRules:
    """The rules for a type of payment, as the ledger names it."""
    return SECOND_RULES if payment_type == SECOND_RULES.type else PIXEL_RULES


@dataclass(frozen=True, slots=True)
class PaymentFlow:
    """What all signing calls of a session have in common."""

    rules: SigningRules = PIXEL_RULES
    manifest_id: str = ""
    """Known before the first payment with live runners, and only after it with jobs."""
    app: str = ""
    """The app of a live runner."""


JOB_FLOW = PaymentFlow()
