"""The ledger: every payment written down before it can be spent and after it was.

Rows are only ever added. A session is one job on one orchestrator; a payment is one answer of the signer;
a step says what was about to happen to it or what became of it. What is missing after a step tells, after
a crash, how far things had come: `signed` alone was never handed out, `delivered` without an outcome may
have been credited.

Wei are text, for they do not fit into 64 bits. Both clocks are integer nanoseconds; the monotonic one is
comparable within one `run` of the gateway.
"""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import event, insert, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.sql import Insert

from gateway.payments.payment import Payment
from gateway.payments.schema import SCHEMA_VERSION, Step, metadata, payments, schema_version, sessions, steps
from gateway.stream.reason import EndReason
from gateway.tasks import spawn

MOST_GROUPED = 256
"""How many writes share one transaction at most."""


class LedgerError(Exception):
    """The ledger cannot be opened, read or written: a sentence that says why."""


class LedgerBusy(LedgerError):
    """Another gateway has the ledger."""


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """What is known of a payment session when it opens. Prices are wei per second."""

    stream: str
    stream_id: str
    request_id: str
    sender: str
    orchestrator_address: str
    orchestrator_url: str
    orchestrator_addr: str
    price: Fraction
    ceiling: Fraction | None
    interval_ns: int


class Ledger:
    """An open ledger. Make one with `Ledger.open`, and `close` it at the end.

    Writes that wait for each other's disk share a transaction; each method returns when its own is on disk.
    """

    def __init__(self, engine: AsyncEngine, lock: TextIO) -> None:
        self._engine = engine
        self._lock = lock
        self._run = uuid.uuid4().hex
        self._queue: asyncio.Queue[tuple[Sequence[Insert], asyncio.Future[None]] | None] = asyncio.Queue()
        self._writer: asyncio.Task[Any] | None = None
        self._closed = False

    @classmethod
    async def open(cls, where: str | Path) -> Ledger:
        """Open or make the ledger at a path or `sqlite:///path`, and close what a crash left open.

        Raises LedgerBusy while another gateway has it, LedgerError for anything else that is in the way.
        """
        path = _path(where)
        lock = _lock(path)
        engine = _sqlite(path)
        ledger = cls(engine, lock)
        try:
            await asyncio.to_thread(_try_sqlite, path)
            async with ledger._connected() as connection:
                await _prepare(connection)
                await ledger._close_abandoned(connection)
        except BaseException:
            await engine.dispose()
            lock.close()
            raise
        ledger._writer = spawn(ledger._write_groups(), name="ledger writer")
        return ledger

    async def close(self) -> None:
        """Write what is queued, then let go of the file."""
        if not self._closed:
            self._closed = True
            self._queue.put_nowait(None)
            if self._writer is not None:
                await self._writer
            await self._engine.dispose()
            self._lock.close()

    # writing

    async def open_session(self, record: SessionRecord) -> str:
        """Write down a new session; its id."""
        session_id = uuid.uuid4().hex
        values = {name: getattr(record, name) for name in SessionRecord.__slots__}
        await self._write(insert(sessions).values(id=session_id, run=self._run, **values, **_clocks()))
        return session_id

    async def intended(self, session_id: str, number: int) -> None:
        """The signer is about to be asked for payment `number` of the session."""
        await self._write(self._step(session_id, number, Step.INTENDED))

    async def signed(
        self, session_id: str, number: int, payment: Payment, *, manifest_id: str, price: Fraction
    ) -> None:
        """The signer made this payment, at `price` wei per second."""
        row = insert(payments).values(
            id=_payment_id(session_id, number),
            session_id=session_id,
            number=number,
            manifest_id=manifest_id,
            tickets=payment.tickets,
            face_value=payment.face_value,
            win_prob=payment.win_prob,
            ticket_ev=payment.ticket_ev,
            value=payment.value,
            price=price,
            first_nonce=payment.first_nonce,
            last_nonce=payment.last_nonce,
            recipient_rand_hash=payment.recipient_rand_hash.hex(),
        )
        await self._write(row, self._step(session_id, number, Step.SIGNED))

    async def delivered(self, session_id: str, number: int, detail: str = "") -> None:
        """The payment is about to be handed to the orchestrator."""
        await self._write(self._step(session_id, number, Step.DELIVERED, detail))

    async def credited(self, session_id: str, number: int, detail: str = "") -> None:
        """The orchestrator credited the payment."""
        await self._write(self._step(session_id, number, Step.CREDITED, detail))

    async def refused(self, session_id: str, number: int, detail: str) -> None:
        """The payment is not credited and will not be."""
        await self._write(self._step(session_id, number, Step.REFUSED, detail))

    async def unknown(self, session_id: str, number: int, detail: str) -> None:
        """No verdict came on the payment."""
        await self._write(self._step(session_id, number, Step.UNKNOWN, detail))

    async def close_session(self, session_id: str, reason: EndReason, detail: str = "") -> None:
        """The session is over."""
        await self._write(self._step(session_id, None, Step.CLOSED, detail, reason))

    # reading

    async def credited_wei(self, stream_id: str | None = None) -> Fraction:
        """The exact expected value of all that was credited, in wei: of one stream id, or of all."""
        credited = select(steps.c.payment_id).where(steps.c.step == Step.CREDITED)
        query = select(payments.c.value).where(payments.c.id.in_(credited))
        if stream_id is not None:
            query = query.join(sessions, sessions.c.id == payments.c.session_id)
            query = query.where(sessions.c.stream_id == stream_id)
        self._check_open()
        async with self._connected() as connection:
            return sum((await connection.execute(query)).scalars(), Fraction(0))

    async def session_rows(self, stream_id: str | None = None) -> list[dict[str, Any]]:
        """The sessions, oldest first, each a mapping of its columns."""
        query = select(sessions).order_by(sessions.c.wall_ns)
        if stream_id is not None:
            query = query.where(sessions.c.stream_id == stream_id)
        return await self._rows(query)

    async def payment_rows(self, session_id: str) -> list[dict[str, Any]]:
        """A session's payments in order, each a mapping of its columns."""
        query = select(payments).where(payments.c.session_id == session_id)
        return await self._rows(query.order_by(payments.c.number))

    async def step_rows(self, session_id: str) -> list[dict[str, Any]]:
        """A session's steps as they were written, each a mapping of its columns."""
        return await self._rows(select(steps).where(steps.c.session_id == session_id).order_by(steps.c.id))

    # how it is done

    def _step(
        self,
        session_id: str,
        number: int | None,
        step: Step,
        detail: str = "",
        reason: EndReason | None = None,
    ) -> Insert:
        return insert(steps).values(
            session_id=session_id,
            payment_id=None if number is None else _payment_id(session_id, number),
            step=step,
            reason=reason,
            detail=detail,
            run=self._run,
            **_clocks(),
        )

    async def _write(self, *statements: Insert) -> None:
        self._check_open()
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((statements, written))
        await written

    async def _write_groups(self) -> None:
        """Write until told to stop: what queued up during one commit goes into the next one together.

        The queue is bounded by its callers, each of which waits for its own write.
        """
        closing = False
        while not closing:
            group = [await self._queue.get()]
            while len(group) < MOST_GROUPED and not self._queue.empty():
                group.append(self._queue.get_nowait())
            closing = None in group
            writes = [write for write in group if write is not None]
            failure: LedgerError | None = None
            try:
                async with self._connected() as connection:
                    for statements, _ in writes:
                        for statement in statements:
                            await connection.execute(statement)
            except LedgerError as error:
                failure = error
            for _, written in writes:
                if written.done():
                    continue
                if failure is None:
                    written.set_result(None)
                else:
                    written.set_exception(failure)

    def _check_open(self) -> None:
        if self._closed:
            raise LedgerError("the ledger is closed")

    async def _rows(self, query: Any) -> list[dict[str, Any]]:
        self._check_open()
        async with self._connected() as connection:
            return [dict(row) for row in (await connection.execute(query)).mappings()]

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed at the end, with the database's errors in our own words."""
        with _translated():
            async with self._engine.begin() as connection:
                yield connection

    async def _close_abandoned(self, connection: AsyncConnection) -> None:
        closed = select(steps.c.session_id).where(steps.c.step == Step.CLOSED)
        left_open = select(sessions.c.id).where(sessions.c.id.not_in(closed))
        for session_id in (await connection.execute(left_open)).scalars().all():
            detail = "the gateway stopped without closing this session; found open at its next start"
            step = self._step(session_id, None, Step.CLOSED, detail, EndReason.INTERNAL_ERROR)
            await connection.execute(step)


async def _prepare(connection: AsyncConnection) -> None:
    await connection.run_sync(metadata.create_all)
    version = (await connection.execute(select(schema_version.c.version))).scalars().all()
    if not version:
        await connection.execute(
            insert(schema_version).values(version=SCHEMA_VERSION, wall_ns=time.time_ns())
        )
    elif max(version) != SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger has schema version {max(version)}, this gateway writes {SCHEMA_VERSION}: use "
            "the gateway that wrote it, or another -ledger"
        )


def _payment_id(session_id: str, number: int) -> str:
    return f"{session_id}-{number}"


def _clocks() -> dict[str, int]:
    return {"wall_ns": time.time_ns(), "monotonic_ns": time.monotonic_ns()}


def _path(where: str | Path) -> Path:
    if isinstance(where, Path) or "://" not in where:
        return Path(where)
    try:
        url = make_url(where)
    except ArgumentError as error:
        raise LedgerError("the ledger's URL cannot be read: it takes a path or sqlite:///path") from error
    if url.get_backend_name() != "sqlite" or not url.database:
        raise LedgerError(f"a ledger in {url.drivername} is not known: it takes a path or sqlite:///path")
    return Path(url.database)


def _lock(path: Path) -> TextIO:
    """Hold the file beside the ledger that says whose it is; the system lets go of it when we die."""
    beside = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = beside.open("w")
    except OSError as error:
        raise LedgerError(f"the ledger {path} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise LedgerBusy(
            f"the ledger {path} is in use by another gateway: stop it, or give this one another -ledger"
        ) from error
    return lock


def _sqlite(path: Path) -> AsyncEngine:
    """SQLite's own settings, in one place. One connection: it has one writer, and readers here are few."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", pool_size=1, max_overflow=0)

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # a payment is on disk before it is spent
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA busy_timeout=5000")
        cursor.close()

    return engine


def _try_sqlite(path: Path) -> None:
    """LedgerError where SQLite cannot use the file.

    Found out without aiosqlite, whose thread outlives a connection that never came to be.
    """
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL").close()
    except sqlite3.Error as error:
        raise LedgerError(f"the ledger {path} cannot be used: {error}") from error


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise LedgerError(f"the ledger failed: {cause}") from error
    except OSError as error:
        raise LedgerError(f"the ledger failed: {error.strerror or error}") from error
