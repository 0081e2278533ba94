"""Jobs of a former run of the gateway, after a crash or a restart: which go on, and the end of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import structlog
from structlog.typing import FilteringBoundLogger

from gateway.aio.tasks import spawn
from gateway.paid_job.former_run import FormerRun
from gateway.paid_job.remains import Remains, RemainsReader
from gateway.payments.errors import LedgerError, SessionTakenOver
from gateway.payments.ledger import Ledger
from gateway.payments.payer import Payer
from gateway.payments.resources import PaymentResources
from gateway.payments.saved_jobs import FormerJob
from gateway.payments.saved_session import NotResumable, SavedSession, passed, restore, seconds_to_resume
from gateway.payments.steps import Step
from gateway.payments.timebase import NANOSECONDS, Moment, now_ns
from gateway.stream.seam import (
    FormerStream,
    Job,
    JobHost,
    Json,
    PublishRequest,
    ResumableJob,
    TooManyModels,
    UnknownModel,
)

JOB = "job"
"""The kind of job of details that name none."""
TICKS = 90_000
"""Of a picture's time, in a second."""
AHEAD = 1
"""Seconds by which a job's pictures may have been ahead of the clock."""
MAX_CHANNEL_AGE = 300 * NANOSECONDS
"""Nanoseconds after which orchestrators have closed a channel that nobody publishes to."""

log = structlog.get_logger("former jobs")


@dataclass(frozen=True)
class _Resumed:
    """A job to go on with, for so many seconds from now."""

    former: FormerJob
    request: PublishRequest
    job: ResumableJob
    last_update: Json | None
    seconds: Fraction


class FormerJobs:
    """The jobs whose sessions the ledger has open at the start. `take` leaves none of them undecided.

    `kinds` read what jobs of theirs left, each by the name in its details. With `resumes` jobs may be gone on
    with. First payments that nobody credited wait for the next start. `monotonic_ns` is the machine's clock
    in nanoseconds.
    """

    def __init__(
        self,
        ledger: Ledger,
        kinds: Mapping[str, RemainsReader],
        *,
        resumes: bool,
        monotonic_ns: Callable[[], int] = now_ns,
    ) -> None:
        self._monotonic_ns = monotonic_ns
        self._ledger = ledger
        self._kinds = kinds
        self._resumes = resumes

    async def take(self) -> list[FormerStream]:
        """The streams that may be gone on with. Raises LedgerError."""
        return await self._go_on(await self._ledger.former_jobs())

    async def take_over(self, stream: str) -> list[FormerStream]:
        """What may be gone on with of a stream whose node is gone. Raises LedgerError."""
        taken = []
        for left in await self._ledger.left_jobs(stream):
            if not _has_started(left):
                continue  # a first payment that waits to be used again, on its own node
            try:
                taken.append(await self._ledger.take_over(left.session_id))
            except SessionTakenOver:
                log.info("another node goes on with a job", stream=stream, session=left.session_id)
        return await self._go_on(taken)

    async def _go_on(self, jobs: Sequence[FormerJob]) -> list[FormerStream]:
        now = Moment(self._ledger.wall_ns, self._monotonic_ns())
        resumed: dict[str, list[_Resumed]] = {}
        for former in reversed(jobs):
            remains: Remains | None = None
            try:
                details, position, saved = former.read()
                request, last_update = _publish(details)
                remains = self._kind(details)(details, request, former, saved)
                if remains.started != (saved.started_at is not None):
                    raise ValueError("it has started, or it has not")
                since = passed(former.saved_at, now)
                saved = saved.moved(now.monotonic_ns - since - former.saved_at.monotonic_ns)
                await remains.reopen()
                payer = await self._payer(remains, former, saved, request, now)
                if not remains.started:
                    await self._ledger.go_on(former)
                    remains.keep(payer)
                    log.info("first payment of a former run is kept", stream=former.job.stream)
                    continue
                others = resumed.setdefault(request.name, [])
                run = FormerRun(payer=payer, after=_after(position, since), last_update=last_update)
                seconds = seconds_to_resume(saved, self._monotonic_ns())
                one = _resumed(remains, former, request, run, saved.price, seconds)
                _check_others(one, others)
                await self._ledger.go_on(former)
                others.append(one)
            except LedgerError:
                raise
            except Exception as why:
                expected = isinstance(why, ValueError | NotResumable | UnknownModel | TooManyModels)
                log.warning(
                    "job of a former run does not go on",
                    stream=former.job.stream,
                    session=former.session_id,
                    why=str(why),
                    exc_info=None if expected else why,
                )
                await self._ledger.abandon(former, str(why))
                age = now.wall_ns - former.saved_at.wall_ns
                if remains is not None and remains.started and age < MAX_CHANNEL_AGE:
                    spawn(remains.give_back(), name="former-job-close")
        return [_stream(jobs) for jobs in resumed.values() if jobs]

    def _kind(self, details: Json) -> RemainsReader:
        """Raises NotResumable."""
        name = details.get("kind", JOB)
        kind = self._kinds.get(name) if isinstance(name, str) else None
        if kind is None:
            raise NotResumable("this gateway has no such kind of job")
        return kind

    async def _payer(
        self, remains: Remains, former: FormerJob, saved: SavedSession, request: PublishRequest, now: Moment
    ) -> Payer:
        """Who pays on. Raises NotResumable."""
        payments = remains.payments
        if payments is None or payments.sender != former.sender:
            raise NotResumable("another signer pays now")
        if saved.payment and former.payment in (Step.WITHHELD, Step.REFUSED, Step.CREDITED):
            raise NotResumable(f"its last payment was {former.payment}")
        if saved.started_at is not None:
            left = seconds_to_resume(saved, now.monotonic_ns) if self._resumes else Fraction(0)
            if left <= 0:
                raise NotResumable("the time in which its publisher could come back has passed")
        session = restore(
            saved,
            sender=bytes.fromhex(payments.sender.removeprefix("0x")),
            interval=payments.interval,
            ceiling=payments.ceiling,
            ticket_limits=payments.ticket_limits,
            handed_out=former.handed_out and saved.started_at is not None,
        )
        refusal = remains.refusal(session.info)
        if refusal is not None:
            raise NotResumable(f"{refusal[0]}: {refusal[1]}")
        if not session.running and not session.first_payment_usable(now.monotonic_ns):
            raise NotResumable("its first payment is of no use any more")
        await self._count(payments, former)
        return Payer.restored(
            payments,
            remains.payee,
            former,
            session,
            limit=request.wei_limits.wei,
            budget=request.budget,
            customer=request.customer,
            log=log.bind(stream=request.name, request_id=request.request_id),
        )

    async def _count(self, payments: PaymentResources, former: FormerJob) -> None:
        """Count in the stream's limits what it spent before."""
        spent = await self._ledger.reader.signed_for(former.job.stream, former.job.request_id)
        payments.spending.restore_stream(former.job.request_id, spent)


def _has_started(job: FormerJob) -> bool:
    """Whether it is known to have run; what cannot be read has not."""
    try:
        return job.read()[2].started_at is not None
    except ValueError:
        return False


def _publish(details: Json) -> tuple[PublishRequest, Json | None]:
    """The request and the last update. Raises ValueError."""
    update = details.get("last_update")
    if not isinstance(update, dict | None):
        raise ValueError("its parameters are no JSON object")
    return PublishRequest.parse(details.get("publish")), update


def _resumed(
    remains: Remains,
    former: FormerJob,
    request: PublishRequest,
    run: FormerRun,
    price: Fraction,
    seconds: Fraction,
) -> _Resumed:
    candidate = remains.candidate(run.payer, price)

    def open_job(host: JobHost, stream_log: FilteringBoundLogger) -> Job:
        return remains.job(candidate, run, host, stream_log)

    job = ResumableJob(candidate=candidate, open=open_job)
    return _Resumed(former, request, job, run.last_update, seconds)


def _check_others(one: _Resumed, newer: list[_Resumed]) -> None:
    """Raises NotResumable where newer jobs of its stream are gone on with."""
    if not newer:
        return
    same = one.request.request_id == newer[0].request.request_id
    if not (same and one.request.standby and len(newer) == 1):
        raise NotResumable("its stream has a newer job")


def _after(position: int | None, since: int) -> int | None:
    """Where the times of a job's pictures go on, in ticks: after all that it may have had."""
    return None if position is None else position + since * TICKS // NANOSECONDS + AHEAD * TICKS


def _stream(jobs: list[_Resumed]) -> FormerStream:
    return FormerStream(
        request=jobs[0].request,
        last_update=jobs[0].last_update,
        jobs=[one.job for one in jobs],
        seconds=float(min(one.seconds for one in jobs)),
    )
