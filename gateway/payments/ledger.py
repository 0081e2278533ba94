"""The ledger: every payment is written down before it can be spent, and its outcome afterwards.

Rows are only ever added. A session is one job on one orchestrator; a payment is one answer of the signer; a
step is what is about to happen to a payment, or what happened. After a crash the last step tells what a
payment may have cost: `signed` was never sent, `delivered` without an outcome may have been credited.

Wei are stored as text, since they do not fit into 64 bits. Both clocks are integer nanoseconds; values of the
monotonic one are comparable within one `run` of the gateway.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Delete, Table, Update, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Insert

from gateway.aio.tasks import spawn
from gateway.payments.database import Database, LedgerBusy, LedgerError, LedgerUnavailable
from gateway.payments.job_identity import JobIdentity
from gateway.payments.ledger_reader import LedgerReader
from gateway.payments.payment import Payment
from gateway.payments.redemptions import RedemptionBook
from gateway.payments.schema import Step, incidents, payments, sessions, steps
from gateway.payments.timebase import NANOSECONDS, now_ns
from gateway.reason import EndReason

__all__ = ["Ledger", "LedgerBusy", "LedgerError", "LedgerUnavailable", "SessionRecord"]

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


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """What is known of a payment session at its start. Prices are wei per second."""

    job: JobIdentity
    sender: str
    orchestrator_address: str
    orchestrator_url: str
    price: Fraction
    ceiling: Fraction | None
    interval_ns: int


_Row = tuple[Table, dict[str, Any]]
"""A row to add. A transaction's rows are inserted with one statement for each table."""
_Change = _Row | Insert | Update | Delete
_Write = tuple[Sequence[_Change], "asyncio.Future[None]"]


class Ledger:
    """An open ledger. Make one with `Ledger.open`, and `close` it at the end.

    Write methods return when their rows are on disk. Writes that arrive meanwhile share the next transaction.
    """

    def __init__(self, database: Database, timing: Timing = Timing()) -> None:
        self.reader = LedgerReader(database)
        self.redemptions = RedemptionBook(database, self._write)
        """The chain's redemptions of the tickets in it."""
        self._database = database
        self._timing = timing
        self._run = uuid.uuid4().hex
        self._queue: asyncio.Queue[_Write | None] = asyncio.Queue()
        self._writer: asyncio.Task[Any] | None = None
        self._trouble: tuple[str, int] | None = None
        self._closed = False

    @classmethod
    async def open(cls, where: str | Path, timing: Timing = Timing()) -> Ledger:
        """Open or create the ledger at a path, `sqlite:///path` or `postgresql://..`.

        Migrates its schema, and closes the sessions that a crash left open. Raises LedgerBusy while another
        gateway uses it, LedgerError for everything else.
        """
        return await cls.start(await Database.open(where), timing)

    @classmethod
    async def start(cls, database: Database, timing: Timing = Timing()) -> Ledger:
        """The ledger in a database that is open for writing; `close` closes both. Raises LedgerError."""
        ledger = cls(database, timing)
        try:
            async with database.writing() as connection:
                await ledger._close_abandoned(connection)
        except BaseException:
            await database.close()
            raise
        ledger._writer = spawn(ledger._write_groups(), name="ledger writer")
        return ledger

    async def close(self) -> None:
        """Write what is queued, then close the database."""
        if not self._closed:
            self._closed = True
            self._queue.put_nowait(None)
            if self._writer is not None:
                await self._writer
            await self._database.close()

    @property
    def trouble(self) -> str | None:
        """Why nothing can be written now, and so nothing paid; None where it can."""
        return self._trouble[0] if self._trouble else None

    # writing

    async def open_session(self, record: SessionRecord) -> str:
        """Add a session. Returns its id."""
        session_id = uuid.uuid4().hex
        row = {
            "id": session_id,
            "run": self._run,
            "stream": record.job.stream,
            "stream_id": record.job.stream_id,
            "request_id": record.job.request_id,
            "sender": record.sender,
            "orchestrator_address": record.orchestrator_address,
            "orchestrator_url": record.orchestrator_url,
            "orchestrator_addr": record.job.addr,
            "price": record.price,
            "ceiling": record.ceiling,
            "interval_ns": record.interval_ns,
            **_clocks(),
        }
        await self._write((sessions, row))
        return session_id

    async def intended(self, session_id: str, number: int) -> None:
        """The signer is about to be called for payment `number` of the session."""
        await self._write(self._step(session_id, number, Step.INTENDED))

    async def signed(
        self, session_id: str, number: int, payment: Payment, *, manifest_id: str, price: Fraction
    ) -> None:
        """The signer made this payment, at `price` wei per second."""
        row = {
            "id": _payment_id(session_id, number),
            "session_id": session_id,
            "number": number,
            "manifest_id": manifest_id,
            "tickets": payment.tickets,
            "face_value": payment.face_value,
            "win_prob": payment.win_prob,
            "ticket_ev": payment.ticket_ev,
            "value": payment.value,
            "price": price,
            "first_nonce": payment.first_nonce,
            "last_nonce": payment.last_nonce,
            "recipient_rand_hash": payment.recipient_rand_hash.hex(),
        }
        await self._write((payments, row), self._step(session_id, number, Step.SIGNED))

    async def delivered(self, session_id: str, number: int, detail: str = "") -> None:
        """The payment is about to be sent to the orchestrator."""
        await self._write(self._step(session_id, number, Step.DELIVERED, detail))

    async def credited(self, session_id: str, number: int, detail: str = "") -> None:
        """The orchestrator credited the payment."""
        await self._write(self._step(session_id, number, Step.CREDITED, detail))

    async def refused(self, session_id: str, number: int, detail: str) -> None:
        """The payment was refused, by the orchestrator or by our own checks: it will not be credited."""
        await self._write(self._step(session_id, number, Step.REFUSED, detail))

    async def unknown(self, session_id: str, number: int, detail: str) -> None:
        """No answer: the payment may have been credited."""
        await self._write(self._step(session_id, number, Step.UNKNOWN, detail))

    async def close_session(
        self, session_id: str, reason: EndReason, detail: str = "", *, owed: Fraction | None = None
    ) -> None:
        """The session is over; `owed` is the fee in wei for the time that its job ran."""
        await self._write(self._step(session_id, None, Step.CLOSED, detail, reason, owed))

    async def check(self) -> None:
        """Check that the ledger can be written, with a write that changes nothing. Raises LedgerError."""
        await self._write_once(update(steps).where(steps.c.id == 1).values(run=steps.c.run))

    # how it is done

    def _step(
        self,
        session_id: str,
        number: int | None,
        step: Step,
        detail: str = "",
        reason: EndReason | None = None,
        owed: Fraction | None = None,
    ) -> _Row:
        return steps, {
            "session_id": session_id,
            "payment_id": None if number is None else _payment_id(session_id, number),
            "step": step,
            "reason": reason,
            "detail": detail,
            "run": self._run,
            "owed": owed,
            **_clocks(),
        }

    async def _write(self, *changes: _Change) -> None:
        """Write, with retries while the database fails: nothing is spent meanwhile."""
        until = now_ns() + self._timing.write_timeout
        while True:
            try:
                return await self._write_once(*changes)
            except LedgerUnavailable:
                if now_ns() >= until:
                    raise
            await asyncio.sleep(self._timing.retry_interval / NANOSECONDS)

    async def _write_once(self, *changes: _Change) -> None:
        self._check_open()
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
                await _apply(connection, [change for changes, _ in writes for change in changes])
        except (LedgerUnavailable, LedgerBusy) as error:
            if self._trouble is None:
                log.error("ledger cannot be written, payments are stopped", error=str(error))
                self._trouble = str(error), time.time_ns()
            raise
        if self._trouble is not None:
            log.info("ledger can be written again")
            self._trouble = None

    def _incident(self, detail: str, began_wall_ns: int) -> Insert:
        clocks = _clocks()
        return insert(incidents).values(run=self._run, detail=detail, began_wall_ns=began_wall_ns, **clocks)

    def _check_open(self) -> None:
        if self._closed:
            raise LedgerError("the ledger is closed")

    async def _close_abandoned(self, connection: AsyncConnection) -> None:
        closed = select(steps.c.session_id).where(steps.c.step == Step.CLOSED)
        left_open = select(sessions.c.id).where(sessions.c.id.not_in(closed))
        for session_id in (await connection.execute(left_open)).scalars().all():
            detail = "the gateway stopped without closing this session; found open at the next start"
            step = self._step(session_id, None, Step.CLOSED, detail, EndReason.INTERNAL_ERROR)
            await _apply(connection, [step])


async def _apply(connection: AsyncConnection, changes: Iterable[_Change]) -> None:
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


def _payment_id(session_id: str, number: int) -> str:
    return f"{session_id}-{number}"


def _clocks() -> dict[str, int]:
    return {"wall_ns": time.time_ns(), "monotonic_ns": now_ns()}
