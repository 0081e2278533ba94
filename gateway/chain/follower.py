"""Follows the redemptions of a sender's tickets into the ledger, block by block, over restarts and reorgs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import structlog
from eth_hash.auto import keccak

from gateway.chain.errors import ChainError, ChainUnreachable, RpcRefused
from gateway.chain.facts import LogEntry
from gateway.payments.database import LedgerError
from gateway.payments.redemptions import Checkpoint, Followed, Redemption, RedemptionBook

log = structlog.get_logger("chain")

LONGEST_RANGE = 10_000
"""Blocks asked about at once; fewer where an endpoint refuses so many."""
BEFORE_LONGER = 50
"""Ranges that were answered before a longer one is tried: what endpoints refuse seldom changes."""
OVERLAP = 240
"""Blocks that are read once more, a minute of Arbitrum's: behind one URL there are many nodes, and one that
lags gives the logs that it has, without a word about those that it lacks."""
LOOK_BACK = 100_000
"""Blocks before the newest where a ledger begins that never followed this chain: some hours of Arbitrum's."""


class LogReader(Protocol):
    """The part of the chain's reader that is used here."""

    async def head(self) -> int: ...

    async def block_hash(self, number: int) -> str | None: ...

    async def redemptions(self, sender: str, first: int, last: int) -> list[LogEntry]: ...


class RedemptionFollower:
    """`run` follows until cancelled, every `interval` seconds; `step` once to the newest block."""

    def __init__(
        self, reader: LogReader, book: RedemptionBook, followed: Followed, *, interval: float
    ) -> None:
        self._reader = reader
        self._book = book
        self._followed = followed
        self._interval = interval
        self._range = LONGEST_RANGE
        self._answered = 0
        self._error = ""
        self._block: int | None = None

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await self.step()
                self._error = ""
            except (ChainError, LedgerError) as error:
                if str(error) != self._error:
                    log.warning("redemptions cannot be followed", detail=str(error))
                self._error = str(error)
            await asyncio.sleep(self._interval)

    async def step(self) -> None:
        """Catch up with the newest block. Raises ChainError or LedgerError; what was caught up is kept."""
        head = await self._reader.head()
        known = await self._book.checkpoints(self._followed)
        if known and head < known[0].block:
            return  # an endpoint that lags behind another
        first, forget_after = await self._start(known, head)
        while first <= head:
            last = min(first + self._range - 1, head)
            try:
                first, forget_after = await self._take(first, last, forget_after), None
            except RpcRefused:
                if self._range == 1:
                    raise
                self._range, self._answered = max(1, self._range // 2), 0
            else:
                self._answered += 1
                if self._answered == BEFORE_LONGER:
                    self._range, self._answered = min(LONGEST_RANGE, self._range * 2), 0

    def json(self) -> dict[str, Any]:
        """For operators: up to which block, and what is in the way."""
        return {"block": self._block, "error": self._error or None}

    async def _start(self, known: Sequence[Checkpoint], head: int) -> tuple[int, int | None]:
        """The first block to ask about, and after which one what is written down is no longer true."""
        if not known:
            return max(0, head - LOOK_BACK), None
        for checkpoint in known:
            if await self._reader.block_hash(checkpoint.block) == checkpoint.block_hash:
                break
            log.warning("chain was reorganised", block=checkpoint.block)
        else:
            first = max(0, known[-1].block - LOOK_BACK)
            return first, first - 1
        reorganised = checkpoint is not known[0]
        first = max(0, checkpoint.block + 1 - min(OVERLAP, self._range))
        return first, checkpoint.block if reorganised else None

    async def _take(self, first: int, last: int, forget_after: int | None) -> int:
        """Write down what happened in these blocks; the next block to ask about."""
        before = await self._reader.block_hash(last)
        entries = await self._reader.redemptions(self._followed.sender, first, last)
        if before is None or await self._reader.block_hash(last) != before:
            raise ChainUnreachable(f"block {last} changed while it was read")
        fresh = await self._book.take(
            self._followed, paired(entries), Checkpoint(last, before), forget_after=forget_after
        )
        self._block = last
        for one in fresh:
            log.info("ticket redeemed", recipient=one.recipient, wei=str(one.amount), block=one.block)
        return last + 1


def paired(entries: Sequence[LogEntry]) -> list[Redemption]:
    """The redemptions, each with the transfer of its transaction that paid it.

    A contract pays and then says what for, or the other way round: one transfer for each redemption, in
    order. A redemption without one paid nothing: the sender had no funds left.
    """
    transfers: dict[tuple[str, str], list[int]] = {}
    for entry in entries:
        if entry.event == "WinningTicketTransfer":
            key = entry.transaction, str(entry.arguments["recipient"])
            transfers.setdefault(key, []).append(int(entry.arguments["amount"]))
    found = []
    for entry in entries:
        if entry.event != "WinningTicketRedeemed":
            continue
        arguments = entry.arguments
        paid = transfers.get((entry.transaction, str(arguments["recipient"])), [])
        found.append(
            Redemption(
                transaction_hash=entry.transaction,
                log_index=entry.index,
                block=entry.block,
                block_hash=entry.block_hash,
                recipient=str(arguments["recipient"]),
                face_value=int(arguments["faceValue"]),
                win_prob=int(arguments["winProb"]),
                sender_nonce=int(arguments["senderNonce"]),
                recipient_rand_hash=keccak(int(arguments["recipientRand"]).to_bytes(32, "big")).hex(),
                aux=bytes(arguments["auxData"]).hex(),
                amount=paid.pop(0) if paid else 0,
            )
        )
    return found
