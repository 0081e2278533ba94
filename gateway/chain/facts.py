"""What is read on the chain, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SenderFunds:
    """What backs a sender's tickets, in wei. `withdraw_round` 0: no unlock is under way."""

    deposit: int
    withdraw_round: int
    reserve: int
    claimed_in_round: int


@dataclass(frozen=True, slots=True)
class Rounds:
    """`l1_block` is what ticket params expire by; `round_number` the newest initialised round."""

    l1_block: int
    round_number: int


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A redemption's event as the chain has it. `arguments` by the names of the contract's event.

    `contract` is the address (0x.., lower case) that told of it.
    """

    event: str
    contract: str
    block: int
    block_hash: str
    transaction: str
    index: int
    arguments: dict[str, Any]
