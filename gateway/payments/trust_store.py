"""What is known of those who are paid, kept in the ledger's database over restarts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from sqlalchemy import Delete, Insert, delete, insert, select

from gateway.candidates.trust import Record, Trust
from gateway.payments.database import Database
from gateway.payments.errors import LedgerError
from gateway.payments.schema import orchestrators, paid_addresses

log = structlog.get_logger("ledger")

LAST_WRITE_TIMEOUT = 5
"""Seconds for what is left to write when the gateway stops."""
RETRY = 5
"""Seconds between two tries while the ledger cannot be written."""
_ADDRESS_CHARACTERS = 42

Write = Callable[..., Awaitable[None]]


class TrustStore:
    """Records by paid address, and whom each host and port was paid as.

    `write` executes statements in one transaction; None only reads.
    """

    def __init__(self, database: Database, write: Write | None = None) -> None:
        self._database = database
        self._write = write

    async def records(self) -> list[Record]:
        """All records, those with the most pictures first."""
        query = select(orchestrators).order_by(orchestrators.c.delivered_ms.desc())
        now = time.time_ns()
        return [Record.from_row(row, now) for row in await self._database.rows(query)]

    async def paid_addresses(self) -> dict[str, str]:
        """The address that each host and port was last paid under."""
        rows = await self._database.rows(select(paid_addresses))
        return {row["place"]: row["address"] for row in rows}

    async def keep(self, trust: Trust) -> None:
        """Write down every record that changes, until cancelled."""
        try:
            while True:
                await trust.wait_changed()
                if not await self._store(trust):
                    await asyncio.sleep(RETRY)
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_WRITE_TIMEOUT):
                    await self._store(trust)

    async def _store(self, trust: Trust) -> bool:
        """Write down what has changed. False where that failed: it counts as changed again."""
        assert self._write is not None
        changed, places = trust.take_changed()
        records = [record for record in changed if len(record.key) == _ADDRESS_CHARACTERS]
        statements: list[Delete | Insert] = []
        if records:
            keys = [record.key for record in records]
            statements.append(delete(orchestrators).where(orchestrators.c.address.in_(keys)))
            statements.append(
                insert(orchestrators).values([record.row(time.time_ns()) for record in records])
            )
        if places:
            statements.append(delete(paid_addresses).where(paid_addresses.c.place.in_(list(places))))
            rows = [{"place": place, "address": address} for place, address in places.items()]
            statements.append(insert(paid_addresses).values(rows))
        if not statements:
            return True
        try:
            await self._write(*statements)
        except LedgerError as error:
            log.warning("orchestrators' records not written", error=str(error))
            trust.not_written(records, places)
            return False
        return True
