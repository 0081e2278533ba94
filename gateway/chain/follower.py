"""Copies the redemptions of a sender's tickets into the ledger, across restarts and reorganisations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog
from eth_hash.auto import keccak

from gateway.chain.errors import ChainError, ChainUnreachable, RpcRefused
from gateway.chain.facts import LogEntry
from gateway.payments.errors import LedgerError
from gateway.payments.redemptions import Checkpoint, FollowedSender, Redemption, RedemptionBook

log = structlog.get_logger("chain")

MAX_RANGE = 10_000
"""Blocks in one request; halved where an endpoint refuses them."""
RANGES_BEFORE_LONGER = 50
"""Answered ranges before a longer one is tried again: endpoints seldom change their limit."""
OVERLAP = 240
"""Blocks that are read again, one minute of Arbitrum's: one URL stands for many nodes, and a node that is
behind leaves out the newest logs without an error."""
LOOK_BACK = 100_000
"""Blocks before the newest at which a new ledger starts: some hours of Arbitrum's."""


class LogReader(Protocol):
    """The part of the chain's reader that is used here."""

    async def head(self) -> int: ...

    async def block_hash(self, number: int) -> str | None: ...

    async def redemptions(self, sender: str, first: int, last: int) -> list[LogEntry]: ...


class RedemptionFollower:
    """Reads redemptions up to the newest block: `step` once, `run` every `interval` seconds."""

    def __init__(
        self, reader: LogReader, book: RedemptionBook, followed: FollowedSender, *, interval: float
    ) -> None:
        self._reader = reader
        self._book = book
        self._followed = followed
        self._interval = interval
        self.on_duty: Callable[[], bool] = lambda: True
        """Whether it is for this node to do; of a cluster's nodes, one writes what the chain says."""
        self._range = MAX_RANGE
        self._answered = 0
        self._error = ""
        self._block: int | None = None

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                if self.on_duty():
                    await self.step()
                self._error = ""
            except (ChainError, LedgerError) as error:
                if str(error) != self._error:
                    log.warning("cannot read redemptions", detail=str(error))
                self._error = str(error)
            await asyncio.sleep(self._interval)

    async def step(self) -> None:
        """Read up to the newest block. Raises ChainError or LedgerError; what was read before is kept."""
        head = await self._reader.head()
        known = await self._book.checkpoints(self._followed)
        if known and head < known[0].block:
            return  # this endpoint is behind an earlier one
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
                if self._answered == RANGES_BEFORE_LONGER:
                    self._range, self._answered = min(MAX_RANGE, self._range * 2), 0

    def json(self) -> dict[str, Any]:
        """The last block that was read and the last error, for operators."""
        return {"block": self._block, "error": self._error or None}

    async def _start(self, known: Sequence[Checkpoint], head: int) -> tuple[int, int | None]:
        """The first block to read, and the block after which the ledger's redemptions must be deleted."""
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
        """Add the redemptions of these blocks to the ledger. Returns the next block to read."""
        before = await self._reader.block_hash(last)
        entries = await self._reader.redemptions(self._followed.sender, first, last)
        if before is None or await self._reader.block_hash(last) != before:
            raise ChainUnreachable(f"block {last} changed while it was read")
        fresh = await self._book.take(
            self._followed, redemptions_of(entries), Checkpoint(last, before), forget_after=forget_after
        )
        self._block = last
        for one in fresh:
            log.info("ticket redeemed", recipient=one.recipient, wei=str(one.amount), block=one.block)
        return last + 1


def redemptions_of(entries: Sequence[LogEntry]) -> list[Redemption]:
    """The redemptions, each with the amount of the transfer that paid it.

    A transaction has one transfer for each redemption that was paid, in the same order; either event may
    come first. A redemption without a transfer paid nothing: the sender had no funds.
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
