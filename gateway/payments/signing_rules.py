"""What a signer bills, by the type of payment that it is asked for. Data only."""

from __future__ import annotations

from dataclasses import dataclass

from signer_client import PaymentType


@dataclass(frozen=True, slots=True)
class SigningRules:
    """The rules for one type of payment."""

    type: PaymentType
    opening: int
    """Seconds that are billed when a session opens."""
    whole_seconds: bool = False
    """Whether each later call is billed in whole seconds, rounded up."""


PIXEL_RULES = SigningRules("lv2v", 60)
"""A job, or a live runner whose price is for 720p pixels."""
SECOND_RULES = SigningRules("live", 10, whole_seconds=True)
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
