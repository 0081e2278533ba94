"""Removes payments that are old, a few at a time between the ledger's lines. Their sums stay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from sqlalchemy import Executable, delete

from gateway.payments.books import MINUTE, Books
from gateway.payments.errors import LedgerError
from gateway.payments.ledger_writer import LedgerWriter
from gateway.payments.schema import holds, minutes, signings
from gateway.payments.timebase import NANOSECONDS

log = structlog.get_logger("ledger")

BATCH = 100
"""Payments that are looked at in one transaction."""
PAUSE = NANOSECONDS // 50
"""Nanoseconds between two of them, for others to write."""
INTERVAL = 600 * NANOSECONDS
"""Nanoseconds between two passes."""
LOCK = 0x6C697665_6F6C6470
"""Key of the advisory lock of who removes, among the nodes of a cluster: "liveoldp" in ASCII."""
KEPT_MINUTES = 49 * 60
"""Sums of this many minutes are kept: more than any spend limit looks back."""


class Retention:
    """`run` removes until it is cancelled, `remove` once. `wall` is nanoseconds since 1970."""

    def __init__(self, queue: LedgerWriter, wall: Callable[[], int]) -> None:
        self._queue = queue
        self._wall = wall

    async def run(self, keep: int | None) -> None:
        """Remove what is older than `keep` nanoseconds, again and again; None keeps all payments."""
        while True:
            try:
                await self.remove(keep)
            except LedgerError as error:
                log.warning("old payments cannot be removed", error=str(error))
            await asyncio.sleep(INTERVAL / NANOSECONDS)

    async def remove(self, keep: int | None) -> int:
        """Remove once; how many payments."""
        now = self._wall()
        old = minutes.c.minute < now // MINUTE - KEPT_MINUTES
        await self._execute(delete(minutes).where(old), delete(holds).where(holds.c.until_ns < now))
        if keep is None:
            return 0
        before, after, removed = now - keep, 0, 0
        while True:
            gone, last = await self._queue.write(_batch(before, after))
            removed += gone
            if last is None:
                break
            after = last
            await asyncio.sleep(PAUSE / NANOSECONDS)
        lost = delete(signings).where(signings.c.wall_ns < before)
        await self._execute(lost)
        if removed:
            log.info("old payments were removed", payments=removed)
        return removed

    async def _execute(self, *statements: Executable) -> None:
        await self._queue.write(lambda books: books.execute(*statements) if books.alone(LOCK) else None)


def _batch(before: int, after: int) -> Callable[[Books], tuple[int, int | None]]:
    """Removes some, unless another node of a cluster does so just now."""
    return lambda books: books.remove(before, after, BATCH) if books.alone(LOCK) else (0, None)
