"""How large tickets may be: -maxTicketSeconds, -maxFaceValue, -maxTicketEV, -maxTotalEV."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from gateway import money
from gateway.orchestrator.info import OrchestratorInfo


@dataclass(frozen=True, slots=True)
class TicketLimits:
    """The operator's limits, for selection and for each update of ticket params. All are inclusive."""

    seconds: Fraction = Fraction(60)
    """The most that a ticket may be worth, in seconds of stream at the price ceiling."""
    face_value: int | None = None
    """The most that a winning ticket may take from the signer's deposit, in wei; None: no limit."""
    value: int | None = None
    """The most that a ticket may be worth, in wei; None: no limit but `seconds`."""
    first_payment: int | None = None
    """The most that the tickets of a first payment may be worth together, in wei; None: no limit."""

    def refusal(self, info: OrchestratorInfo, ceiling: Fraction) -> str:
        """Why tickets on this info are too large, empty where they are not. `ceiling` is wei per second."""
        value, most = info.ticket_ev or Fraction(0), self.seconds * ceiling
        # orchestrators round a ticket's probability up, by less than a wei
        if value >= most + 1:
            return (
                f"one ticket is worth {money.whole_wei(value)} wei, and -maxTicketSeconds allows "
                f"{money.whole_wei(most)}, {money.decimal(self.seconds)} s at the price ceiling"
            )
        if self.value is not None and value >= self.value + 1:
            return f"one ticket is worth {money.whole_wei(value)} wei, and -maxTicketEV allows {self.value}"
        if self.face_value is not None and info.face_value > self.face_value:
            return f"a winning ticket takes {info.face_value} wei, and -maxFaceValue allows {self.face_value}"
        return ""

    def refusal_of_first(self, tickets: int, ticket_ev: Fraction) -> str:
        """Why so many tickets are too large a first payment, empty where they are not."""
        if self.first_payment is None or tickets * ticket_ev < self.first_payment + tickets:
            return ""
        wei = money.whole_wei(tickets * ticket_ev)
        return f"its first payment is worth {wei} wei, and -maxTotalEV allows {self.first_payment}"


DEFAULT_TICKET_LIMITS = TicketLimits()
