"""Block and round numbers computed from the wall clock, so that every process has the same."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

BLOCK_TIME = 12.0
"""Seconds between two blocks of the real chain."""

BLOCKS_PER_ROUND = 5760

GENESIS = 1_438_269_973
"""Unix seconds of Ethereum's first block: block numbers are as large as on the real chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainClock:
    """The time, the newest block and the newest round.

    `block_time` is in seconds, `epoch` (unix seconds) is the time of block 0. Processes with the same two
    values get the same block numbers. `now_ns` gives unix nanoseconds.
    """

    block_time: float = BLOCK_TIME
    epoch: int = GENESIS
    now_ns: Callable[[], int] = time.time_ns

    def __post_init__(self) -> None:
        if self.block_time <= 0:
            raise ValueError(f"block time {self.block_time} s is not above 0")

    def unix(self) -> int:
        """The time in whole unix seconds."""
        return self.now_ns() // 10**9

    def block(self) -> int:
        """The number of the newest block."""
        return (self.now_ns() - self.epoch * 10**9) // round(self.block_time * 10**9)

    def round(self) -> int:
        """The number of the newest initialised round, never 0."""
        return self.block() // BLOCKS_PER_ROUND + 1

    def round_block_hash(self, number: int) -> bytes:
        """The 32-byte block hash of round `number`."""
        return hashlib.sha256(b"devnet round %d" % number).digest()
