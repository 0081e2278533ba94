"""The ledger: every payment is written down before it can be spent, and its outcome afterwards.

A session is one job on one orchestrator; a payment is one answer of the signer, a row that tells every step
it took. After a crash the last step tells what a payment may have cost: `signed` was never sent, `delivered`
without an outcome may have been credited. Old payments are removed, their sums stay (`schema.py`).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Executable, extract, func, select

from gateway.payments.books import Books
from gateway.payments.created_streams import CreatedStreams
from gateway.payments.customer import MAX_NAME
from gateway.payments.database import Database, rows_of
from gateway.payments.errors import LedgerError
from gateway.payments.event_outbox import EventOutbox
from gateway.payments.job_identity import JobIdentity
from gateway.payments.ledger_reader import LedgerReader
from gateway.payments.ledger_writer import DEFAULT_TIMING, LedgerWriter, WriterTiming
from gateway.payments.payment import Payment
from gateway.payments.redemptions import RedemptionBook
from gateway.payments.retention import Retention
from gateway.payments.saved_jobs import FormerJob, SavedJob, read_former_jobs
from gateway.payments.schema import saved_jobs, session_days, sessions
from gateway.payments.session_key import SessionKey
from gateway.payments.shared_limits import HoldRequest
from gateway.payments.signing_rules import JOB_FLOW, PaymentFlow
from gateway.payments.spending import SpendLimitReached
from gateway.payments.steps import Step, clean
from gateway.payments.timebase import NANOSECONDS, Moment, now_ns
from gateway.payments.trust_store import TrustStore
from gateway.reason import EndReason

MAX_TEXT = 2048
"""Characters of a URL or a name that are kept."""
MAX_PUBLISHER = 500
"""Characters of a publisher that are kept: PostgreSQL's keys have a limit of 2,704 bytes."""
ABANDONED = "the gateway stopped without closing this session; found open at the next start"
UNANSWERED = "the gateway stopped before it had the signer's answer"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where the times of lines come from: nanoseconds since 1970, and of a clock that only goes forward."""

    wall_ns: Callable[[], int] = time.time_ns
    monotonic_ns: Callable[[], int] = now_ns

    @classmethod
    async def of_server(cls, database: Database) -> Clocks:
        """Those of a cluster's node: the wall clock is the database server's, the same for all nodes.

        It goes on by this machine's monotonic clock: who sets a node's wall clock changes nothing.
        """
        query = select(extract("epoch", func.clock_timestamp()) * NANOSECONDS)
        before = now_ns()
        server_ns = int(await database.read(lambda connection: connection.execute(query).scalar_one()))
        ahead = server_ns - (before + now_ns()) // 2
        return cls(wall_ns=lambda: now_ns() + ahead)


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """What is known of a payment session at its start. Prices are wei per second, addresses 0x text."""

    job: JobIdentity
    sender: str
    orchestrator_address: str
    orchestrator_url: str
    price: Fraction
    ceiling: Fraction | None
    interval_ns: int
    publisher: str = ""
    """Who published the stream; empty where nobody is told apart."""
    flow: PaymentFlow = JOB_FLOW
    """How it is paid. Its manifest id is not written here: it is a secret where it is known."""


class Ledger:
    """An open ledger. Make one with `Ledger.open`, and `close` it at the end.

    Write methods return when their line is on disk, and raise LedgerError where it cannot be, such as
    SessionTakenOver where another run or node of the gateway goes on with the session. A session is named by
    what `open_session`, `former_jobs` or `take_over` gave.
    """

    def __init__(self, database: Database, queue: LedgerWriter, run: str, clocks: Clocks) -> None:
        self.reader = LedgerReader(database)
        self.redemptions = RedemptionBook(database, self.execute)
        """The chain's redemptions of the tickets in it."""
        self.trust = TrustStore(database, self.execute, None if database.node is None else self._do)
        """What is known of those who are paid."""
        self.created_streams = CreatedStreams(self._do, clocks.wall_ns)
        """Streams that the API created."""
        self.retention = Retention(queue, clocks.wall_ns)
        """Removes old payments."""
        self.events = EventOutbox(database, self._do, clocks.wall_ns)
        """Events that wait for the operator's webhook."""
        self._database = database
        self._node = database.node
        self._queue = queue
        self._run = run
        self._clocks = clocks

    @classmethod
    async def open(
        cls,
        where: str | Path,
        timing: WriterTiming = DEFAULT_TIMING,
        *,
        node: str | None = None,
        clocks: Clocks | None = None,
    ) -> Ledger:
        """Open or create the ledger at a path, `sqlite:///path` or `postgresql://..`.

        `node` is the name of this node of a cluster, whose nodes write to one ledger on PostgreSQL; None is
        a single gateway. Migrates its schema, and closes the sessions that a former run left open and whose
        jobs are not kept: the others are `former_jobs`. Raises LedgerBusy while another gateway uses it, or
        another node of that name; LedgerError for everything else.
        """
        return await cls.start(await Database.open(where, node=node), timing, clocks=clocks)

    @classmethod
    async def start(
        cls, database: Database, timing: WriterTiming = DEFAULT_TIMING, *, clocks: Clocks | None = None
    ) -> Ledger:
        """The ledger in a database that is open for writing; `close` closes both. Raises LedgerError."""
        run = uuid.uuid4().hex
        if clocks is None:
            try:
                clocks = Clocks() if database.node is None else await Clocks.of_server(database)
            except BaseException:
                await database.close()
                raise
        queue = LedgerWriter(database, run, timing)
        ledger = cls(database, queue, run, clocks)
        try:
            await ledger._close_abandoned()
        except BaseException:
            await ledger.close()
            raise
        return ledger

    async def close(self) -> None:
        """Write what is queued, then close the database."""
        await self._queue.close()
        await self._database.close()

    @property
    def trouble(self) -> str | None:
        """Why nothing can be written now, and so nothing paid; None where it can."""
        return self._queue.trouble

    @property
    def wall_ns(self) -> int:
        """Now, in Unix nanoseconds, by the clock of its lines: in a cluster the database server's."""
        return self._clocks.wall_ns()

    async def check(self) -> None:
        """Check that the ledger can be written, with a write that changes nothing. Raises LedgerError."""
        await self._queue.check()

    @property
    def shared(self) -> bool:
        """Whether the nodes of a cluster write to it, which share their limits there."""
        return self._database.node is not None

    # lines

    async def open_session(self, record: SessionRecord) -> str:
        """Add a session. Returns its id."""
        at, session_id = self._now(), uuid.uuid4().hex
        texts = {
            "stream": record.job.stream,
            "stream_id": record.job.stream_id,
            "request_id": record.job.request_id,
            "orchestrator_url": record.orchestrator_url,
            "orchestrator_addr": record.job.addr,
        }
        row = {
            "id": session_id,
            "run": self._run,
            **{name: clean(value, MAX_TEXT) for name, value in texts.items()},
            "publisher": clean(record.publisher, MAX_PUBLISHER),
            **_of_customer(record.job),
            "sender": clean(record.sender, 42),
            "orchestrator_address": clean(record.orchestrator_address, 42),
            "manifest_id": "",
            "payment_type": record.flow.rules.type,
            "app": clean(record.flow.app, MAX_TEXT),
            "price": record.price,
            "ceiling": record.ceiling,
            "interval_ns": record.interval_ns,
            "wall_ns": at.wall_ns,
            "monotonic_ns": at.monotonic_ns,
        }
        await self._queue.write(lambda books: books.open_session(row))
        return session_id

    async def move_session(
        self,
        session_id: str,
        job: JobIdentity,
        publisher: str,
        details: str = "",
        request: HoldRequest | None = None,
    ) -> None:
        """The session serves another job from now on, and counts for who publishes that one.

        `details` are those of the job that are kept, `request` the limits of a cluster that its payment has
        to fit into. Raises SpendLimitReached where it does not, and then changes nothing.
        """
        at = self._now()
        texts = {"stream": job.stream, "stream_id": job.stream_id, "request_id": job.request_id}
        values: dict[str, Any] = {name: clean(value, MAX_TEXT) for name, value in texts.items()}
        values["publisher"] = clean(publisher, MAX_PUBLISHER)
        values |= _of_customer(job)

        def move(books: Books) -> SpendLimitReached | None:
            refused = books.move(session_id, values, request, at)
            if refused is None:
                books.save_details(session_id, details)
            return refused

        _check(await self._queue.write(move, session=session_id, counts=request is not None))

    async def save_details(self, session_id: str, details: str) -> None:
        """Replace the details of a job that is kept."""
        await self._write(session_id, lambda books: books.save_details(session_id, details))

    async def forget_job(self, session_id: str) -> None:
        """A job is about to end: from now on no node can take it over.

        Raises SessionTakenOver where one has, which uses the job by now.
        """
        await self._write(session_id, lambda books: books.forget_job(session_id))

    async def intended(self, session_id: str, number: int, request: HoldRequest | None = None) -> None:
        """The signer is about to be called for payment `number` of the session.

        `request` is what is held for it of the limits that the nodes of a cluster share, until it is signed
        or released. Raises SpendLimitReached where it does not fit, and then writes nothing.
        """
        at = self._now()
        refused = await self._queue.write(
            lambda books: books.ask(session_id, number, at, request),
            session=session_id,
            counts=request is not None,
        )
        _check(refused)

    async def release(self, session_id: str, number: int) -> None:
        """The call to the signer for payment `number` gave none: nothing is held for it any more."""
        await self._write(session_id, lambda books: books.release(session_id, number))

    async def lost(self, session_id: str, number: int, most: Fraction | None, detail: str) -> None:
        """The signer gave no usable payment and may bill one, of up to `most` wei where that is known."""
        at = self._now()
        await self._write(session_id, lambda books: books.lose(session_id, number, most, detail, at))

    async def signed(
        self,
        session_id: str,
        number: int,
        payment: Payment,
        *,
        manifest_id: str,
        price: Fraction,
        saved: SavedJob | None = None,
        request: HoldRequest | None = None,
    ) -> None:
        """The signer made this payment, at `price` wei per second.

        `saved` is what its job needs to go on in another run, with this payment. Raises SpendLimitReached
        where it is worth more than was held and does not fit into what was requested: it is withheld then.
        """
        at = self._now()
        row: dict[str, Any] = {
            "tickets": payment.tickets,
            "face_value": payment.face_value,
            "win_prob": payment.win_prob,
            "first_nonce": payment.first_nonce,
            "last_nonce": payment.last_nonce,
            "recipient_rand_hash": payment.recipient_rand_hash,
            "price": price,
        }

        def sign(books: Books) -> SpendLimitReached | None:
            refused = books.sign(session_id, number, row, manifest_id=manifest_id, at=at, request=request)
            _save(books, session_id, saved, at)
            return refused

        _check(await self._write(session_id, sign))

    async def withheld(self, session_id: str, number: int, detail: str) -> None:
        """The payment failed our own checks, and is not sent."""
        await self._step(session_id, number, Step.WITHHELD, detail)

    async def delivered(self, session_id: str, number: int, detail: str = "") -> None:
        """The payment is about to be sent to the orchestrator."""
        await self._step(session_id, number, Step.DELIVERED, detail)

    async def credited(
        self, session_id: str, number: int, detail: str = "", saved: SavedJob | None = None
    ) -> None:
        """The orchestrator credited the payment. `saved` is what its job needs to go on in another run."""
        await self._step(session_id, number, Step.CREDITED, detail, saved)

    async def handed_out(self, session_id: str, number: int, detail: str) -> None:
        """The job that the payment was sent with did not start: the orchestrator holds its tickets."""
        await self._step(session_id, number, Step.HANDED_OUT, detail)

    async def refused(self, session_id: str, number: int, detail: str) -> None:
        """The orchestrator refused the payment."""
        await self._step(session_id, number, Step.REFUSED, detail)

    async def unknown(self, session_id: str, number: int, detail: str) -> None:
        """No answer: the payment may have been credited."""
        await self._step(session_id, number, Step.UNKNOWN, detail)

    async def close_session(
        self, session_id: str, reason: EndReason, detail: str = "", *, owed: Fraction | None = None
    ) -> None:
        """The session is over; `owed` is the fee in wei for the time that its job ran."""
        at = self._now()
        await self._write(session_id, lambda books: books.close(session_id, reason, detail, owed, at))

    async def execute(self, *statements: Executable) -> None:
        """Run statements on other tables than those of payments, in one transaction."""
        await self._queue.write(lambda books: books.execute_last(*statements))

    async def _do(self, work: Callable[[Connection], Any]) -> None:
        await self._queue.write(lambda books: books.do_last(work))

    # jobs of former runs

    async def former_jobs(self) -> list[FormerJob]:
        """The jobs whose sessions a former run left open: each is to be gone on with or closed.

        In a cluster those of this node.
        """
        own = () if self._node is None else (sessions.c.node == self._node,)
        former = await self._database.read(lambda connection: read_former_jobs(connection, *own))
        return former if self._node is None else [self._by_server_clock(one) for one in former]

    async def left_jobs(self, stream: str) -> list[FormerJob]:
        """The jobs of a stream that are kept, whichever node has them, for `take_over`; oldest first."""
        former = await self._database.read(
            lambda connection: read_former_jobs(connection, sessions.c.stream == stream)
        )
        return [self._by_server_clock(one) for one in former]

    async def recent_starts(self, publisher: str) -> dict[str, int]:
        """A publisher's publishes that asked for a first payment within a minute, at any node of a cluster.

        Nanoseconds ago, by request id; none where the database cannot be read: it is asked again, and then
        exactly, before the first payment.
        """
        from gateway.payments.holds import started_within_a_minute  # SQLAlchemy's part for PostgreSQL

        now = self.wall_ns
        query = started_within_a_minute(publisher, now)
        try:
            rows = await self._database.rows(query)
        except LedgerError:
            return {}
        return {row["request_id"]: now - row["started_ns"] for row in rows}

    async def take_over(self, session_id: str) -> FormerJob:
        """Go on with a job that another node has, from what is written down by now.

        The session is named as `left_jobs` does. From then on that node can write to it no more, so that its
        next payment fails before the signer is asked. Raises SessionTakenOver where another was faster,
        LedgerError where there is nothing to go on with.
        """

        def take(books: Books) -> list[FormerJob]:
            number = books.take_over(session_id)
            return books.read(lambda connection: read_former_jobs(connection, sessions.c.number == number))

        (former,) = await self._write(session_id, take)
        return self._by_server_clock(former)

    async def go_on(self, former: FormerJob) -> None:
        """This run goes on with a job: a call to the signer that was under way counts as lost."""
        if former.unanswered is not None:
            unanswered, at = former.unanswered, self._now()

            def lose(books: Books) -> None:
                books.lose(former.session_id, unanswered, None, UNANSWERED, at)
                books.unasked(former.session_id)

            await self._write(former.session_id, lose)

    async def abandon(self, former: FormerJob, why: str) -> None:
        """Nobody goes on with a job: close its session."""
        at = self._now()
        detail = f"{ABANDONED}: {why}"
        await self._write(
            former.session_id,
            lambda books: _abandon(books, former.session_id, former.unanswered, detail, at),
        )

    # how it is done

    async def _step(
        self, session_id: str, number: int, step: Step, detail: str, saved: SavedJob | None = None
    ) -> None:
        at = self._now()

        def take(books: Books) -> None:
            books.step(session_id, number, step, detail, at)
            _save(books, session_id, saved, at)

        await self._write(session_id, take)

    async def _write(self, session_id: str, line: Callable[[Books], T]) -> T:
        return await self._queue.write(line, session=session_id)

    def _by_server_clock(self, former: FormerJob) -> FormerJob:
        """A job of another machine's run, by this one's monotonic clock: they have one wall clock."""
        now, saved = self._now(), former.saved_at
        monotonic_ns = now.monotonic_ns - (now.wall_ns - saved.wall_ns)
        later = monotonic_ns - saved.monotonic_ns
        return replace(former, saved_at=Moment(saved.wall_ns, monotonic_ns), later=later)

    def _now(self) -> Moment:
        return Moment(self._clocks.wall_ns(), self._clocks.monotonic_ns())

    async def _close_abandoned(self) -> None:
        """Close what a crash left open and nobody can go on with."""
        at = self._now()

        def close(books: Books) -> None:
            for session_id, unanswered in found:
                _abandon(books, session_id, unanswered, ABANDONED, at)

        await self._queue.write_once(lambda books: books.take_all())
        found = await self._database.read(lambda connection: _abandoned(connection, self._node))
        if found:
            await self._queue.write_once(close)


def _save(books: Books, session_id: str, saved: SavedJob | None, at: Moment) -> None:
    if saved is not None:
        books.save_job(session_id, saved.details, saved.progress, at)


def _abandon(books: Books, session_id: str, unanswered: int | None, detail: str, at: Moment) -> None:
    """Close a session. A call to the signer that was under way may have been billed."""
    if unanswered is not None:
        books.lose(session_id, unanswered, None, UNANSWERED, at)
    books.close(session_id, EndReason.INTERNAL_ERROR, detail, None, at)


def _check(refused: SpendLimitReached | None) -> None:
    if refused is not None:
        raise refused


def _abandoned(connection: Connection, node: str | None) -> list[tuple[str, int | None]]:
    """The open sessions without a job that is kept, in a cluster those of this node.

    Each comes with the number of a payment that was asked for and not signed.
    """
    signed = (
        select(func.coalesce(func.sum(session_days.c.payments), 0))
        .where(session_days.c.session == sessions.c.number)
        .scalar_subquery()
    )
    query = select(sessions.c.id, sessions.c.epoch, sessions.c.asked_number, signed.label("signed"))
    if node is not None:
        query = query.where(sessions.c.node == node)
    kept = select(saved_jobs.c.session)
    query = query.where(sessions.c.closed_wall_ns.is_(None), sessions.c.number.not_in(kept))
    query = query.order_by(sessions.c.number)
    return [
        (
            SessionKey(row["id"], row["epoch"]),
            row["asked_number"] if (row["asked_number"] or 0) > row["signed"] else None,
        )
        for row in rows_of(connection, query)
    ]


def _of_customer(job: JobIdentity) -> dict[str, Any]:
    """The columns of whom a session is for; the headers for the signer are not among them."""
    return {"customer": clean(job.customer.name, MAX_NAME), "markup": job.customer.markup}
