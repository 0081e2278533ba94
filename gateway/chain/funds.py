"""Whether a sender's funds cover its tickets, and what to tell the operator. Plain logic."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from gateway.chain.facts import SenderFunds
from gateway.money import SECONDS_PER_HOUR, whole_wei

DEPOSIT_MULTIPLIER = 1
"""A signer accepts a ticket's face value up to the deposit divided by this."""


@dataclass(frozen=True, slots=True)
class FundsCheck:
    """The funds of `sender` (0x..) in a round, and what follows from them."""

    sender: str
    funds: SenderFunds
    round_number: int

    @property
    def max_face_value(self) -> int:
        """The highest face value that a signer accepts, in wei."""
        return self.funds.deposit // DEPOSIT_MULTIPLIER

    def refusal(self, face_value: int = 0) -> str | None:
        """Why a ticket of that face value would be refused, and what to do; None where it would not."""
        funds, sender = self.funds, self.sender
        if not funds.deposit or not funds.reserve:
            missing = "deposit" if not funds.deposit else "reserve"
            return (
                f"the signer's address {sender} has no {missing}, so every ticket would be refused: "
                "fund deposit and reserve at the TicketBroker"
            )
        if funds.withdraw_round and funds.withdraw_round <= self.round_number + 1:
            return (
                f"the funds of the signer's address {sender} are unlocked as of round "
                f"{funds.withdraw_round}, so every ticket would be refused: cancel the unlock at the "
                "TicketBroker from that address; funding from another one does not cancel it"
            )
        if face_value > self.max_face_value:
            return (
                f"its tickets' face value of {face_value} wei is above the deposit of {funds.deposit} wei: "
                f"fund the deposit of the signer's address {sender}"
            )
        return None

    def hours_left(self, burn: Fraction) -> Fraction | None:
        """Hours that the deposit lasts on average at `burn` wei per second; None where that is 0."""
        return self.funds.deposit / (burn * SECONDS_PER_HOUR) if burn else None

    def warning(self, burn: Fraction, at_least: Fraction) -> str | None:
        """What to warn the operator of, before tickets are refused. `at_least` is in hours."""
        if self.funds.withdraw_round:
            return (
                f"an unlock of the funds of {self.sender} is under way: from round "
                f"{self.funds.withdraw_round - 1} on every ticket will be refused, unless it is cancelled"
            )
        left = self.hours_left(burn)
        if left is not None and left < at_least:
            return (
                f"the deposit of {self.sender} lasts {float(left):.1f} more hours at the present "
                f"{whole_wei(burn)} wei per second: fund it"
            )
        return None
