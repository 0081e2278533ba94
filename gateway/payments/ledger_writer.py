"""Writes to the ledger's database: in groups, with retries while the database fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Delete, Table, Update, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Insert

from gateway.aio.tasks import spawn
from gateway.payments.database import Database
from gateway.payments.errors import LedgerBusy, LedgerError, LedgerUnavailable
from gateway.payments.schema import incidents, payments, sessions, steps
from gateway.payments.timebase import NANOSECONDS, now_ns

log = structlog.get_logger("ledger")

MAX_GROUPED = 256
"""Writes that share one transaction, at most."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What a ledger times while its database fails. Nanoseconds."""

    write_timeout: int = 30 * NANOSECONDS
    """A write is retried for this long: about half of the time that a first payment buys."""
    retry_interval: int = NANOSECONDS
    """Between two tries of one write."""
    probe_interval: int = 2 * NANOSECONDS
    """Between two tries of the database while nobody writes."""


DEFAULT_TIMING = Timing()


Row = tuple[Table, dict[str, Any]]
"""A row to add. A transaction's rows are inserted with one statement for each table."""
Change = Row | Insert | Update | Delete
_Write = tuple[Sequence[Change], "asyncio.Future[None]"]


class LedgerWriter:
    """Writes that arrive during one commit share the next transaction. `run` is that of the ledger."""

    def __init__(self, database: Database, run: str, timing: Timing) -> None:
        self._database = database
        self._run = run
        self._timing = timing
        self._queue: asyncio.Queue[_Write | None] = asyncio.Queue()
        self._task: asyncio.Task[Any] | None = None
        self._trouble: tuple[str, int] | None = None
        """Why the database cannot be written, and since when (wall clock)."""
        self._closed = False

    @property
    def trouble(self) -> str | None:
        """Why nothing can be written now; None where it can."""
        return self._trouble[0] if self._trouble else None

    def start(self) -> None:
        """Start the task that writes."""
        self._task = spawn(self._write_groups(), name="ledger writer")

    async def close(self) -> None:
        """Write what is queued, and refuse all further writes."""
        if not self._closed:
            self._closed = True
            self._queue.put_nowait(None)
        if self._task is not None:
            await self._task

    async def write(self, *changes: Change) -> None:
        """Write, with retries while the database fails: nothing is spent meanwhile."""
        until = now_ns() + self._timing.write_timeout
        while True:
            try:
                return await self.write_once(*changes)
            except LedgerUnavailable:
                if now_ns() >= until:
                    raise
            await asyncio.sleep(self._timing.retry_interval / NANOSECONDS)

    async def write_once(self, *changes: Change) -> None:
        """Write without retries. Raises LedgerError."""
        if self._closed:
            raise LedgerError("the ledger is closed")
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((changes, written))
        await written

    async def _write_groups(self) -> None:
        """Write until `close`: what was queued during one commit goes into the next one together.

        The queue is bounded by its callers, each of which waits for its own write.
        """
        closing = False
        while not closing:
            group = await self._next_group()
            closing = None in group
            writes = [write for write in group if write is not None]
            if not writes and self._trouble is None:
                continue
            failure: LedgerError | None = None
            try:
                await self._commit(writes)
            except LedgerError as error:
                failure = error
            except Exception as error:  # the callers wait for their writes, whatever went wrong
                log.exception("unexpected error while writing the ledger")
                failure = LedgerError(f"unexpected error: {error!r}")
            for _, written in writes:
                if written.done():
                    continue
                if failure is None:
                    written.set_result(None)
                else:
                    written.set_exception(failure)

    async def _next_group(self) -> list[_Write | None]:
        """The next writes; none where the database is only tried again."""
        try:
            probe = self._timing.probe_interval / NANOSECONDS
            async with asyncio.timeout(probe if self._trouble else None):
                group = [await self._queue.get()]
        except TimeoutError:
            return []
        while len(group) < MAX_GROUPED and not self._queue.empty():
            group.append(self._queue.get_nowait())
        return group

    async def _commit(self, writes: Sequence[_Write]) -> None:
        try:
            async with self._database.writing() as connection:
                if self._trouble is not None:
                    await connection.execute(self._incident(*self._trouble))
                await apply(connection, [change for changes, _ in writes for change in changes])
        except (LedgerUnavailable, LedgerBusy) as error:
            if self._trouble is None:
                log.error("ledger cannot be written, payments are stopped", error=str(error))
                self._trouble = str(error), time.time_ns()
            raise
        if self._trouble is not None:
            log.info("ledger can be written again")
            self._trouble = None

    def _incident(self, detail: str, began_wall_ns: int) -> Insert:
        row = {"run": self._run, "detail": detail, "began_wall_ns": began_wall_ns, **clocks()}
        return insert(incidents).values(row)


async def apply(connection: AsyncConnection, changes: Iterable[Change]) -> None:
    """Execute the changes in the connection's transaction."""
    rows: dict[Table, list[dict[str, Any]]] = {sessions: [], payments: [], steps: []}
    for change in changes:
        if isinstance(change, tuple):
            table, row = change
            rows[table].append(row)
        else:
            await connection.execute(change)
    for table, added in rows.items():
        if added:
            await connection.execute(insert(table), added)


def clocks() -> dict[str, int]:
    """The columns for the time of a row."""
    return {"wall_ns": time.time_ns(), "monotonic_ns": now_ns()}
