"""Writes lines of the ledger: those that arrive during one transaction share the next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection, insert, text

from gateway.aio.tasks import spawn
from gateway.payments.books import Books
from gateway.payments.database import Database
from gateway.payments.errors import LedgerBusy, LedgerError, LedgerUnavailable
from gateway.payments.schema import incidents
from gateway.payments.timebase import NANOSECONDS, now_ns

log = structlog.get_logger("ledger")

MAX_GROUPED = 256
"""Lines that share one transaction, at most."""

T = TypeVar("T")
Line = Callable[[Books], Any]
"""Changes the books. Raises LedgerError, before any change, where it cannot be right."""


@dataclass(frozen=True, slots=True)
class WriterTiming:
    """What a ledger times while its database fails. Nanoseconds."""

    write_timeout: int = 30 * NANOSECONDS
    """A line is retried for this long: about half of the time that a first payment buys."""
    retry_interval: int = NANOSECONDS
    """Between two tries of one line."""
    probe_interval: int = 2 * NANOSECONDS
    """Between two tries of the database while nobody writes."""


DEFAULT_TIMING = WriterTiming()


@dataclass(frozen=True, slots=True)
class _Waiting:
    line: Line
    written: asyncio.Future[Any]
    sessions: Iterable[str]
    counts: bool


class LedgerWriter:
    """Lines wait here for their turn, each with its caller. `run` is who this process is in the ledger."""

    def __init__(self, database: Database, run: str, timing: WriterTiming) -> None:
        self._database = database
        self._run = run
        self._timing = timing
        self._books = Books(database.node)
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue()
        self._trouble: tuple[str, int] | None = None
        self._closed = False
        self._writer = spawn(self._write_groups(), name="ledger writer")

    @property
    def trouble(self) -> str | None:
        """Why nothing can be written now; None where it can."""
        return self._trouble[0] if self._trouble else None

    async def write(
        self, line: Callable[[Books], T], *, session: str | None = None, counts: bool = False
    ) -> T:
        """What a line gives, once it is on disk; retried while the database fails. Raises LedgerError.

        `session` is what it is about, `counts` says that it counts what all nodes of a cluster have spent.
        """
        until = now_ns() + self._timing.write_timeout
        while True:
            try:
                return await self.write_once(line, session=session, counts=counts)
            except LedgerUnavailable:
                if now_ns() >= until:
                    raise
            await asyncio.sleep(self._timing.retry_interval / NANOSECONDS)

    async def write_once(
        self, line: Callable[[Books], T], *, session: str | None = None, counts: bool = False
    ) -> T:
        """The same without retries."""
        if self._closed:
            raise LedgerError("the ledger is closed")
        written: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        sessions = () if session is None else (session,)
        self._queue.put_nowait(_Waiting(line, written, sessions, counts))
        return await written

    async def check(self) -> None:
        """Check that the database can be written, with a write that changes nothing. Raises LedgerError."""
        unchanged = text("UPDATE alembic_version SET version_num = version_num")
        await self.write_once(lambda books: books.execute_last(unchanged))

    async def close(self) -> None:
        """Write what is queued, then take no more."""
        if not self._closed:
            self._closed = True
            self._queue.put_nowait(None)
            await self._writer

    async def _write_groups(self) -> None:
        """Write until `close`. The queue is bounded by its callers, each of which waits for its own line."""
        closing = False
        while not closing:
            group = await self._next_group()
            closing = None in group
            await self._write_group([one for one in group if one is not None])

    async def _next_group(self) -> list[_Waiting | None]:
        """The next lines; none where the database is only tried again."""
        try:
            probe = self._timing.probe_interval / NANOSECONDS
            async with asyncio.timeout(probe if self._trouble else None):
                group = [await self._queue.get()]
        except TimeoutError:
            return []
        while len(group) < MAX_GROUPED and not self._queue.empty():
            group.append(self._queue.get_nowait())
        # those that count wait for other nodes: before they lock rows that those may want
        return sorted(group, key=lambda one: one is None or not one.counts)

    async def _write_group(self, group: Sequence[_Waiting]) -> None:
        if not group and self._trouble is None:
            return
        failure: LedgerError
        try:
            results = await self._commit(group)
        except LedgerError as error:
            failure = error
        except Exception as error:  # the callers wait for their lines, whatever went wrong
            log.exception("unexpected error while writing the ledger")
            failure = LedgerError(f"unexpected error: {error!r}")
        else:
            for one, result in zip(group, results, strict=True):
                _answer(one, result)
            return
        if len(group) == 1 or isinstance(failure, LedgerUnavailable | LedgerBusy):
            for one in group:
                _answer(one, failure)
            return
        for one in group:  # one of them was refused: the others are none the worse for it
            await self._write_group([one])

    async def _commit(self, group: Sequence[_Waiting]) -> list[Any]:
        """What each line gave: a LedgerError where it was not right. Raises where nothing was written."""
        trouble = self._trouble
        session_ids = [session_id for one in group for session_id in one.sessions]

        def work(connection: Connection) -> list[Any]:
            self._books.begin(connection, session_ids)
            if trouble is not None:
                self._books.execute(self._incident(*trouble))
            results = [_taken(one.line, self._books) for one in group]
            self._books.flush()
            return results

        try:
            results = await self._database.write(work)
        except BaseException as error:
            self._books.forget()
            if isinstance(error, LedgerUnavailable | LedgerBusy) and self._trouble is None:
                log.error("ledger cannot be written, payments are stopped", error=str(error))
                self._trouble = str(error), time.time_ns()
            raise
        if self._trouble is not None:
            log.info("ledger can be written again")
            self._trouble = None
        return results

    def _incident(self, detail: str, began_wall_ns: int) -> Any:
        return insert(incidents).values(
            run=self._run,
            detail=detail,
            began_wall_ns=began_wall_ns,
            wall_ns=time.time_ns(),
            monotonic_ns=now_ns(),
        )


def _taken(line: Line, books: Books) -> Any:
    try:
        return line(books)
    except LedgerError as error:
        return error


def _answer(one: _Waiting, result: Any) -> None:
    if one.written.done():
        return
    if isinstance(result, Exception):
        one.written.set_exception(result)
    else:
        one.written.set_result(result)
