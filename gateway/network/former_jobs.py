"""Jobs of a former run of the gateway, after a crash or a restart: which go on, and the end of the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import structlog

from gateway.aio.tasks import spawn
from gateway.candidates.verdict import Verdict
from gateway.network.job import FormerJobRun, OrchestratorJob
from gateway.network.job_details import read_details
from gateway.network.models import ModelNetworks
from gateway.network.resources import NetworkResources
from gateway.network.source import NetworkSource
from gateway.orchestrator.discovery import Listing
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.job_start import JobUrls
from gateway.payments.errors import LedgerError
from gateway.payments.ledger import Ledger
from gateway.payments.payer import Payer
from gateway.payments.resources import PaymentResources
from gateway.payments.saved_jobs import FormerJob
from gateway.payments.saved_session import NotResumable, SavedSession, passed, restore, seconds_to_resume
from gateway.payments.steps import Step
from gateway.payments.timebase import NANOSECONDS, Moment, now_ns
from gateway.stream.seam import (
    Candidate,
    FormerStream,
    Job,
    JobHost,
    Json,
    PublishRequest,
    ResumableJob,
    TooManyModels,
    UnknownModel,
)
from gateway.trickle.publisher import delete_channel

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

    With `resumes` they may be gone on with. First payments that nobody credited wait for the next start.
    `monotonic_ns` is the machine's clock in nanoseconds.
    """

    def __init__(
        self,
        ledger: Ledger,
        networks: ModelNetworks,
        source: NetworkSource,
        *,
        resumes: bool,
        monotonic_ns: Callable[[], int] = now_ns,
    ) -> None:
        self._ledger = ledger
        self._networks = networks
        self._source = source
        self._resumes = resumes
        self._monotonic_ns = monotonic_ns

    async def take(self) -> list[FormerStream]:
        """The streams that may be gone on with. Raises LedgerError."""
        now = Moment(time.time_ns(), self._monotonic_ns())
        resumed: dict[str, list[_Resumed]] = {}
        for former in reversed(await self._ledger.former_jobs()):
            urls: JobUrls | None = None
            info: OrchestratorInfo | None = None
            try:
                details, position, saved = former.read()
                info = saved.orchestrator_info
                request, urls, last_update = read_details(details)
                if (urls is None) != (saved.started_at is None):
                    raise ValueError("it has started, or it has not")
                since = passed(former.saved_at, now)
                saved = saved.moved(now.monotonic_ns - since - former.saved_at.monotonic_ns)
                network = await self._networks.reopen(request.model)
                payer = await self._payer(network, former, saved, request, now)
                if urls is None:
                    await self._ledger.go_on(former)
                    network.first_payments.keep(former.recipient, payer)
                    log.info("first payment of a former run is kept", stream=former.job.stream)
                    continue
                others = resumed.setdefault(request.name, [])
                run = FormerJobRun(
                    urls=urls, payer=payer, after=_after(position, since), last_update=last_update
                )
                one = self._resumed(network, former, saved, request, run)
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
                if info is not None and urls is not None and age < MAX_CHANNEL_AGE:
                    spawn(self._close_channels(info, urls), name="former-job-close")
        return [_stream(jobs) for jobs in resumed.values() if jobs]

    async def _payer(
        self,
        network: NetworkResources,
        former: FormerJob,
        saved: SavedSession,
        request: PublishRequest,
        now: Moment,
    ) -> Payer:
        """Who pays on. Raises NotResumable."""
        payments = network.payments
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
        verdict, detail = network.pool.judge(Listing(former.job.addr), session.info)
        if verdict is not Verdict.AVAILABLE:
            raise NotResumable(f"{verdict}: {detail}")
        if not session.running and not session.first_payment_usable(now.monotonic_ns):
            raise NotResumable("its first payment is of no use any more")
        await self._count(payments, former)
        return Payer.restored(
            payments,
            network.orchestrators,
            former,
            session,
            limit=request.limits.wei,
            budget=request.budget,
            log=log.bind(stream=request.name, request_id=request.request_id),
        )

    async def _count(self, payments: PaymentResources, former: FormerJob) -> None:
        """Count in the stream's limits what it spent before."""
        spent = await self._ledger.reader.signed_for(former.job.stream, former.job.request_id)
        payments.spending.restore_stream(former.job.request_id, spent)

    def _resumed(
        self,
        network: NetworkResources,
        former: FormerJob,
        saved: SavedSession,
        request: PublishRequest,
        run: FormerJobRun,
    ) -> _Resumed:
        candidate = Candidate(
            source=self._source,
            url=run.payer.info.url,
            addr=former.job.addr,
            address=former.recipient,
            price=saved.price,
        )

        def open_job(host: JobHost, stream_log: structlog.typing.FilteringBoundLogger) -> Job:
            job = OrchestratorJob(network, candidate, request, host, stream_log, former=run)
            self._networks.job_opened(request.model, job)
            return job

        seconds = seconds_to_resume(saved, self._monotonic_ns())
        job = ResumableJob(candidate=candidate, open=open_job)
        return _Resumed(former, request, job, run.last_update, seconds)

    async def _close_channels(self, info: OrchestratorInfo, urls: JobUrls) -> None:
        """Free the orchestrator's room: what is not gone on with would keep it for minutes."""
        network = self._networks.default
        http = network.orchestrators.http_for(info)
        if not await delete_channel(http, urls.publish_url):
            network.left_channels.add(http, urls.publish_url)


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
