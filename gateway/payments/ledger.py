"""The ledger: every payment is written down before it can be spent, and its outcome afterwards.

Rows are only ever added. A session is one job on one orchestrator; a payment is one answer of the signer; a
step is what is about to happen to a payment, or what happened. After a crash the last step tells what a
payment may have cost: `signed` was never sent, `delivered` without an outcome may have been credited.

Wei are stored as text, since they do not fit into 64 bits. Both clocks are integer nanoseconds; values of the
monotonic one are comparable within one `run` of the gateway.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.payments.database import Database
from gateway.payments.job_identity import JobIdentity
from gateway.payments.ledger_reader import LedgerReader
from gateway.payments.ledger_writer import DEFAULT_TIMING, LedgerWriter, Row, Timing, apply, clocks
from gateway.payments.payment import Payment
from gateway.payments.redemptions import RedemptionBook
from gateway.payments.schema import Step, payments, sessions, steps
from gateway.reason import EndReason


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


class Ledger:
    """An open ledger. Make one with `Ledger.open`, and `close` it at the end.

    Write methods return when their rows are on disk. Writes that arrive meanwhile share the next transaction.
    """

    def __init__(self, database: Database, timing: Timing = DEFAULT_TIMING) -> None:
        self._run = uuid.uuid4().hex
        self._database = database
        self._writer = LedgerWriter(database, self._run, timing)
        self.reader = LedgerReader(database)
        self.redemptions = RedemptionBook(database, self._writer.write)
        """The chain's redemptions of the tickets in it."""

    @classmethod
    async def open(cls, where: str | Path, timing: Timing = DEFAULT_TIMING) -> Ledger:
        """Open or create the ledger at a path, `sqlite:///path` or `postgresql://..`.

        Migrates its schema, and closes the sessions that a crash left open. Raises LedgerBusy while another
        gateway uses it, LedgerError for everything else.
        """
        return await cls.start(await Database.open(where), timing)

    @classmethod
    async def start(cls, database: Database, timing: Timing = DEFAULT_TIMING) -> Ledger:
        """The ledger in a database that is open for writing; `close` closes both. Raises LedgerError."""
        ledger = cls(database, timing)
        try:
            async with database.writing() as connection:
                await ledger._close_abandoned(connection)
        except BaseException:
            await database.close()
            raise
        ledger._writer.start()
        return ledger

    async def close(self) -> None:
        """Write what is queued, then close the database."""
        await self._writer.close()
        await self._database.close()

    @property
    def trouble(self) -> str | None:
        """Why nothing can be written now, and so nothing paid; None where it can."""
        return self._writer.trouble

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
            **clocks(),
        }
        await self._writer.write((sessions, row))
        return session_id

    async def intended(self, session_id: str, number: int) -> None:
        """The signer is about to be called for payment `number` of the session."""
        await self._writer.write(self._step(session_id, number, Step.INTENDED))

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
        await self._writer.write((payments, row), self._step(session_id, number, Step.SIGNED))

    async def delivered(self, session_id: str, number: int, detail: str = "") -> None:
        """The payment is about to be sent to the orchestrator."""
        await self._writer.write(self._step(session_id, number, Step.DELIVERED, detail))

    async def credited(self, session_id: str, number: int, detail: str = "") -> None:
        """The orchestrator credited the payment."""
        await self._writer.write(self._step(session_id, number, Step.CREDITED, detail))

    async def refused(self, session_id: str, number: int, detail: str) -> None:
        """The payment was refused, by the orchestrator or by our own checks: it will not be credited."""
        await self._writer.write(self._step(session_id, number, Step.REFUSED, detail))

    async def unknown(self, session_id: str, number: int, detail: str) -> None:
        """No answer: the payment may have been credited."""
        await self._writer.write(self._step(session_id, number, Step.UNKNOWN, detail))

    async def close_session(
        self, session_id: str, reason: EndReason, detail: str = "", *, owed: Fraction | None = None
    ) -> None:
        """The session is over; `owed` is the fee in wei for the time that its job ran."""
        await self._writer.write(self._step(session_id, None, Step.CLOSED, detail, reason, owed))

    async def check(self) -> None:
        """Check that the ledger can be written, with a write that changes nothing. Raises LedgerError."""
        await self._writer.write_once(update(steps).where(steps.c.id == 1).values(run=steps.c.run))

    def _step(
        self,
        session_id: str,
        number: int | None,
        step: Step,
        detail: str = "",
        reason: EndReason | None = None,
        owed: Fraction | None = None,
    ) -> Row:
        return steps, {
            "session_id": session_id,
            "payment_id": None if number is None else _payment_id(session_id, number),
            "step": step,
            "reason": reason,
            "detail": detail,
            "run": self._run,
            "owed": owed,
            **clocks(),
        }

    async def _close_abandoned(self, connection: AsyncConnection) -> None:
        closed = select(steps.c.session_id).where(steps.c.step == Step.CLOSED)
        left_open = select(sessions.c.id).where(sessions.c.id.not_in(closed))
        for session_id in (await connection.execute(left_open)).scalars().all():
            detail = "the gateway stopped without closing this session; found open at the next start"
            step = self._step(session_id, None, Step.CLOSED, detail, EndReason.INTERNAL_ERROR)
            await apply(connection, [step])


def _payment_id(session_id: str, number: int) -> str:
    return f"{session_id}-{number}"
