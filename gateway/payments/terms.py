"""Which OrchestratorInfo a session may pay on."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from gateway import money
from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.actions import Leave
from gateway.payments.ticket_limits import DEFAULT_TICKET_LIMITS, TicketLimits
from gateway.reason import EndReason


@dataclass(frozen=True, slots=True)
class Terms:
    """What every info has to keep to. Prices are wei per second."""

    address: bytes
    """What the orchestrator's node signs with, 20 bytes."""
    recipient: bytes
    """What its tickets pay, 20 bytes: another where it has a hot and a cold wallet."""
    ceiling: Fraction
    """The operator's."""
    price: Fraction
    """The first payment's; before it, the one that the orchestrator was chosen for."""
    ticket_limits: TicketLimits = DEFAULT_TICKET_LIMITS

    def refusal(self, info: OrchestratorInfo) -> Leave | None:
        """Why the info must not be paid on; None where it may.

        PRICE_RAISED where only its price or the size of its tickets is wrong.
        """
        if info.message.address != self.address:
            return Leave(EndReason.PAYMENT_REFUSED, "the orchestrator answered under another address")
        if not info.price or not info.ticket_ev:
            return Leave(
                EndReason.PAYMENT_REFUSED, "the orchestrator's info has no price or no usable ticket params"
            )
        if info.message.ticket_params.recipient != self.recipient:
            return Leave(EndReason.PAYMENT_REFUSED, "the orchestrator's tickets pay another address")
        if info.price > self.ceiling:
            return self._raised(info.price, f"the ceiling of {money.text(self.ceiling)}")
        if info.price > self.price:
            return self._raised(info.price, f"the session's {money.text(self.price)}")
        if too_large := self.ticket_limits.refusal(info, self.ceiling):
            return Leave(EndReason.PRICE_RAISED, too_large)
        return None

    def _raised(self, price: Fraction, limit: str) -> Leave:
        return Leave(EndReason.PRICE_RAISED, f"{money.text(price)} wei/s is above {limit} wei/s")
