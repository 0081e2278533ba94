"""How large a ticket may be: `-maxTicketSeconds` and `-maxFaceValue`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from gateway import money
from gateway.orchestrator.info import OrchestratorInfo


@dataclass(frozen=True, slots=True)
class TicketLimits:
    """The operator's limits, for selection and for each update of ticket params. Both are inclusive."""

    seconds: Fraction = Fraction(60)
    """The most that a ticket may be worth, in seconds of stream at the price ceiling."""
    face_value: int | None = None
    """The most that a winning ticket may take from the signer's deposit, in wei; None: no limit."""

    def refusal(self, info: OrchestratorInfo, ceiling: Fraction) -> str:
        """Why tickets on this info are too large, empty where they are not. `ceiling` is wei per second."""
        value, most = info.ticket_ev or Fraction(0), self.seconds * ceiling
        if value >= most + 1:  # orchestrators round a ticket's probability up, by less than a wei
            return (
                f"one ticket is worth {money.whole_wei(value)} wei, and -maxTicketSeconds allows "
                f"{money.whole_wei(most)}, {money.decimal(self.seconds)} s at the price ceiling"
            )
        if self.face_value is not None and info.face_value > self.face_value:
            return f"a winning ticket takes {info.face_value} wei, and -maxFaceValue allows {self.face_value}"
        return ""


DEFAULT_TICKET_LIMITS = TicketLimits()
