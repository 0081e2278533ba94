"""What is known of those who are paid, kept in the ledger's database over restarts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from sqlalchemy import Connection, Delete, Insert, delete, insert, select, update

from gateway.candidates.trust import Record, Trust
from gateway.candidates.trust_rows import Row, empty_row, merged_row
from gateway.payments.database import Database
from gateway.payments.errors import LedgerError
from gateway.payments.schema import orchestrators, paid_addresses

log = structlog.get_logger("ledger")

LAST_WRITE_TIMEOUT = 5
"""Seconds for what is left to write when the gateway stops."""
LEARN = 5
"""Seconds after which other nodes' records are read where nothing was to be written here."""
RETRY = 5
"""Seconds between two tries while the ledger cannot be written."""
_ADDRESS_CHARACTERS = 42

Write = Callable[..., Awaitable[None]]
Work = Callable[[Callable[[Connection], None]], Awaitable[None]]


class TrustStore:
    """Records by paid address, and whom each host and port was paid as.

    `write` executes statements in one transaction; None only reads. In a cluster `work` has a function read
    and write in one: each node adds what it has seen, and learns what others have.
    """

    def __init__(self, database: Database, write: Write | None = None, work: Work | None = None) -> None:
        self._database = database
        self._write = write
        self._work = work
        self._known: dict[str, Row] = {}
        """In a cluster: the rows as this node last read or wrote them."""

    async def records(self) -> list[Record]:
        """All records, those with the most pictures first."""
        query = select(orchestrators).order_by(orchestrators.c.delivered_ms.desc())
        now, rows = time.time_ns(), await self._database.rows(query)
        if self._work is not None:
            self._known = {row["address"]: row for row in rows}
        return [Record.from_row(row, now) for row in rows]

    async def paid_addresses(self) -> dict[str, str]:
        """The address that each host and port was last paid under."""
        rows = await self._database.rows(select(paid_addresses))
        return {row["place"]: row["address"] for row in rows}

    async def keep(self, trust: Trust) -> None:
        """Write down every record that changes, until cancelled; in a cluster, learn what others write."""
        try:
            while True:
                try:
                    async with asyncio.timeout(None if self._work is None else LEARN):
                        await trust.wait_changed()
                except TimeoutError:
                    await self._learn(trust)
                    continue
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
        if records and self._work is None:
            keys = [record.key for record in records]
            statements.append(delete(orchestrators).where(orchestrators.c.address.in_(keys)))
            statements.append(
                insert(orchestrators).values([record.row(time.time_ns()) for record in records])
            )
        if places:
            statements.append(delete(paid_addresses).where(paid_addresses.c.place.in_(list(places))))
            rows = [{"place": place, "address": address} for place, address in places.items()]
            statements.append(insert(paid_addresses).values(rows))
        try:
            if statements:
                await self._write(*statements)
            if records and self._work is not None:
                await self._share(trust, records)
        except LedgerError as error:
            log.warning("orchestrators' records not written", error=str(error))
            trust.not_written(records, places)
            return False
        return True

    async def _share(self, trust: Trust, records: list[Record]) -> None:
        """Add what has changed here to the rows, and take over what others have added to them."""
        assert self._work is not None
        now = time.time_ns()
        mine = {record.key: record.row(now) for record in records}
        written: dict[str, Row] = {}

        def merge(connection: Connection) -> None:
            query = select(orchestrators).where(orchestrators.c.address.in_(list(mine)))
            locked = query.order_by(orchestrators.c.address).with_for_update()
            theirs = {row["address"]: dict(row) for row in connection.execute(locked).mappings()}
            for address, row in sorted(mine.items()):
                known = self._known.get(address) or empty_row(address)
                merged = merged_row(known, row, theirs.get(address, known))
                written[address] = merged
                if address in theirs:
                    same = orchestrators.c.address == address
                    connection.execute(update(orchestrators).where(same).values(merged))
                else:
                    connection.execute(insert(orchestrators).values(merged))

        await self._work(merge)
        for address, row in written.items():
            trust.learn(mine[address], row, time.time_ns())
        self._known |= written

    async def _learn(self, trust: Trust) -> None:
        """Take over what others have written."""
        try:
            rows = await self._database.rows(select(orchestrators))
        except LedgerError as error:
            log.warning("other nodes' records not read", error=str(error))
            return
        for row in rows:
            known = self._known.get(row["address"]) or empty_row(row["address"])
            if row != known:
                trust.learn(known, row, time.time_ns())
                self._known[row["address"]] = row
