"""Values read from the chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SenderFunds:
    """A sender's funds in wei. `withdraw_round` is 0 where no unlock is under way."""

    deposit: int
    withdraw_round: int
    reserve: int
    claimed_in_round: int


@dataclass(frozen=True, slots=True)
class Rounds:
    """The chain's clocks: ticket params expire at an `l1_block`; `round_number` is the newest round."""

    l1_block: int
    round_number: int


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One event of a contract. `arguments` are by the event's own names.

    `contract` is the address (0x.., lower case) that emitted it.
    """

    event: str
    contract: str
    block: int
    block_hash: str
    transaction: str
    index: int
    arguments: dict[str, Any]
