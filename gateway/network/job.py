"""A job on an orchestrator: paid through the remote signer, with frames over trickle channels."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import aiohttp
from structlog.typing import FilteringBoundLogger

from gateway import money
from gateway.aio.tasks import TaskGroup, spawn
from gateway.media.frames import AccessUnit, Frame
from gateway.network.job_details import job_details
from gateway.network.resources import NetworkResources
from gateway.network.worker_status import MAX_STATUS, WorkerStatus
from gateway.orchestrator.credentials import unsigned_credentials
from gateway.orchestrator.errors import (
    AlreadySeen,
    NoCapacity,
    OfferChanged,
    OrchestratorError,
    PriceRaised,
    Refused,
)
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.job_start import JobRequest, JobUrls
from gateway.payments.first_payments import Turn
from gateway.payments.job_identity import JobIdentity
from gateway.payments.payer import Payer
from gateway.payments.resources import PaymentResources
from gateway.payments.saved_jobs import JobDetails
from gateway.reason import ChooseAgain, Ended, EndReason, NoRoom
from gateway.stream.seam import (
    Candidate,
    JobHost,
    JobStatus,
    Json,
    OrchestratorRef,
    PublishRequest,
    UpdateRefused,
)
from gateway.trickle.control import JsonPublisher
from gateway.trickle.errors import ChannelError
from gateway.trickle.events import JsonSubscriber
from gateway.trickle.liveness import Liveness, LivenessTiming
from gateway.trickle.publisher import MAX_IN_FLIGHT
from gateway.trickle.relay import Relay
from gateway.trickle.wire import NEXT

RESUME_RESERVE = 2.0
"""Seconds of credit that a job keeps over a pause, which is debited when pictures come again."""


@dataclass(frozen=True)
class Timing:
    """Time limits after which a job is given up, in seconds."""

    max_worker_silence: float = 30.0
    """Without an event from the worker."""
    worker_check: float = 10.0
    """Between two checks of that."""
    max_turn: float = 30.0
    """Until other streams' starts at the same orchestrator are answered."""
    max_uplink_fault: float = 10.0
    """Of silence while nobody else answers either: then the gateway's own uplink may be at fault."""
    max_slow: float = 0.25
    """With more than MAX_IN_FLIGHT segments in flight."""
    liveness: LivenessTiming = field(default_factory=LivenessTiming)


DEFAULT_TIMING = Timing()


@dataclass(frozen=True)
class FormerRun:
    """A job that runs already."""

    urls: JobUrls
    payer: Payer
    after: int | None
    """The time that its pictures came to by now, in ticks."""
    last_update: Json | None
    """The newest parameters that its worker got; None where that was at its start."""


class OrchestratorJob:
    """One job: a first payment, the start, then frames, payments and events until the end.

    With `former` it goes on with a job that another run of the gateway started, and is held at first.
    """

    def __init__(
        self,
        network: NetworkResources,
        candidate: Candidate,
        request: PublishRequest,
        host: JobHost,
        log: FilteringBoundLogger,
        timing: Timing = DEFAULT_TIMING,
        former: FormerRun | None = None,
    ) -> None:
        self.started = False
        self.paid = False
        self._held = False
        self._former = former
        self.paused = False
        self._network = network
        self._candidate = candidate
        self._trusted = network.pool.job_opened(candidate.addr, candidate.address, self)
        self._addr = candidate.addr
        self._url = candidate.url
        self._request = request
        self._host = host
        self._timing = timing
        self._log = log.bind(orchestrator=candidate.url)
        self._info: OrchestratorInfo | None = None
        self._payer: Payer | None = None
        self._turn: Turn | None = None
        self._starting: asyncio.Task[JobUrls] | None = None
        self._manifest_id = ""
        self._relay: Relay | None = None
        self._control: JsonPublisher | None = None
        self._worker = WorkerStatus(
            candidate.url, max_silence=timing.max_worker_silence, check_interval=timing.worker_check
        )
        self._open_channels = 0
        self._closed = False
        self._kept = JobDetails(job_details(request, None, host.last_update))
        """What another run of the gateway needs to go on, beside the payments."""
        if former is not None:
            self._info, self._payer = former.payer.info, former.payer
            self._manifest_id = former.urls.manifest_id
            self._kept.details = job_details(request, former.urls, former.last_update)
            self._trusted.goes_on()
            former.payer.keep(self._kept)
            self._log = self._log.bind(manifest_id=self._manifest_id)

    # the stream's side

    async def run(self) -> None:
        """Pay, start and relay. Raises Ended."""
        if self._former is not None:
            await self._go_on(self._former)
            return
        try:
            self._info = info = await self._network.pool.take(self._addr, self._candidate.price)
        except OfferChanged as error:
            raised = isinstance(error, PriceRaised)
            reason = EndReason.PRICE_RAISED if raised else EndReason.ORCHESTRATOR_LOST
            raise ChooseAgain(reason, f"{self._url}: {error}") from error
        except OrchestratorError as error:
            kind = NoRoom if isinstance(error, NoCapacity) else Ended
            raise kind(EndReason.ORCHESTRATOR_LOST, f"{self._url}: {error}") from error
        urls = await self._start(info)
        try:
            await self._run(urls, self._http)
        except ChannelError as error:
            raise self._lost(error) from error

    async def _go_on(self, former: FormerRun) -> None:
        """Relay as the run before did. Raises Ended."""
        self._log.info("job of a former run goes on")
        try:
            await self._run(former.urls, self._http, former)
        except ChannelError as error:
            lost = self._lost(error)
            shown = self._relay is not None and self._relay.downlink.segments_read
            # where nothing has come since, the session may be over for having been left alone: nobody's fault
            raise (lost if shown else ChooseAgain(lost.reason, lost.detail)) from error

    @property
    def longest_hold(self) -> float:
        left = self._payer.credit_left if self.started and self._payer is not None else None
        return 0.0 if left is None else max(0.0, float(left) - RESUME_RESERVE)

    def hold(self) -> None:
        self._held = True
        if self.started and self._payer is not None:
            self._payer.pause()
        if self._relay is not None:
            self._relay.new_source()

    def resume(self) -> None:
        self._held = False
        if self.started and self._payer is not None:
            self._payer.resume()

    def push(self, frame: Frame) -> None:
        if self._relay is not None:
            self._relay.push(frame)

    async def update(self, params: Mapping[str, Any]) -> Json:
        if not self.started:
            return {}  # the stream keeps them for the start
        if self._control is None or not self._control.publish(params):
            raise UpdateRefused("worker_busy", "too many updates wait for the worker: send fewer")
        if params.keys() != {"type"}:
            self._kept.details = {**self._kept.details, "last_update": dict(params)}
        return {}

    async def close(self, reason: EndReason, *, leave: bool = False) -> None:
        """End the payments, and free the orchestrator's capacity by closing the channels.

        With `leave`, another run of the gateway is to go on with the job: session and channels stay.
        """
        if self._relay is not None:
            self._relay.end_input()
        works = self.started or self._former is not None
        if leave and works and self._payer is not None and self._payer.resumable:
            await asyncio.gather(self._close_channels(leave=True), self._payer.leave())
            self._open_channels = 0
            self._closed = True
            return
        if self._former is not None and self._relay is None:
            self._relay = self._relay_of(self._former.urls, self._http, self._log, self._former)
        if self._starting is not None and self._relay is None:
            await self._close_late_start(self._starting)
        try:
            await asyncio.gather(self._close_channels(), self._close_payments(reason))
        finally:
            self._trusted.end(self._payer.status().credited if self._payer is not None else Fraction(0))
            self._network.pool.job_over(self._addr, self, ran=self._relay is not None)
        self._open_channels = 0
        self._closed = True

    def status(self) -> JobStatus:
        info, relay, control = self._info, self._relay, self._control
        orchestrator = None
        if info is not None:
            orchestrator = OrchestratorRef(
                url=info.url, address=info.address, price=info.price, manifest_id=self._manifest_id
            )
        return JobStatus(
            worker=self._worker.newest,
            orchestrator=orchestrator,
            payments=self._payer.status() if self._payer else None,
            segments=relay.downlink.segments_read if relay else 0,
            gaps=relay.downlink.gaps if relay else 0,
            dropped=relay.uplink.dropped if relay else 0,
            held_bytes=(relay.uplink.buffered if relay else 0) + (control.waiting_bytes if control else 0),
            channels=self._open_channels,
            sessions=int(self._payer is not None and not self._closed),
            problem=relay.problem if relay else None,
        )

    # the start

    async def _start(self, offer: OrchestratorInfo) -> JobUrls:
        """Sign the first payment and start the job with it."""
        network, request, info = self._network, self._request, offer
        if network.payments is None:
            payment, credentials = "", unsigned_credentials(info)
        else:
            turn = await self._first_payment_turn(info)
            payer = self._payer = await self._open_payments(network.payments, info, turn)
            first = await payer.first_payment()
            self.paid = turn.kept is None
            self._info = info = payer.info
            network.pool.pays(self._addr, info)
            if self.paid:
                self._trusted.paid()
            self._candidate.paid_in_vain = True
            payment, credentials = first.payment, first.seg_creds
        # a task of its own: if the stream ends meanwhile, the job is still written down, and closed
        self._starting = spawn(
            self._start_job(info, payment, credentials),
            name=f"job-start {request.request_id}",
            expected=(OrchestratorError, Ended),
        )
        try:
            return await asyncio.shield(self._starting)
        except OrchestratorError as error:
            again = self._turn is not None and self._turn.kept is not None
            if again and isinstance(error, AlreadySeen | Refused):
                may_have_started = self._payer is not None and self._payer.start_unanswered
                await self._close_payments(EndReason.ORCHESTRATOR_LOST)
                self._turn = self._payer = None
                if may_have_started:  # and was credited then: this start needs a payment of its own
                    return await self._start(offer)
            kind = NoRoom if isinstance(error, NoCapacity) and not again else Ended
            once_more = ", with a payment that it had before" if again else ""
            detail = f"{info.url} did not start the job{once_more}: {error}"
            self._log.info("orchestrator did not start the job", error=error.full)
            raise kind(EndReason.ORCHESTRATOR_LOST, detail) from error

    async def _first_payment_turn(self, info: OrchestratorInfo) -> Turn:
        try:
            async with asyncio.timeout(self._timing.max_turn):
                self._turn = await self._network.first_payments.turn(info.recipient)
        except TimeoutError:
            detail = f"{info.url} has not answered another stream's start yet"
            raise NoRoom(EndReason.ORCHESTRATOR_LOST, detail) from None
        return self._turn

    async def _open_payments(self, payments: PaymentResources, info: OrchestratorInfo, turn: Turn) -> Payer:
        """Who pays this job: one with a first payment that was handed out there before, or a new one."""
        request = self._request
        job = JobIdentity(
            stream=request.name,
            stream_id=request.stream_id,
            request_id=request.request_id,
            addr=self._addr,
        )
        limit = request.limits.wei
        if turn.kept is None:
            return Payer(
                payments,
                self._network.orchestrators,
                info,
                job=job,
                limit=limit,
                budget=request.budget,
                log=self._log,
                details=self._kept,
            )
        self._payer = turn.kept  # which is kept again if it cannot serve this job
        self._log.info("first payment of a former start is handed out again")
        await turn.kept.adopt(job, limit=limit, budget=request.budget, log=self._log, details=self._kept)
        return turn.kept

    async def _start_job(self, info: OrchestratorInfo, payment: str, credentials: str) -> JobUrls:
        body = JobRequest(
            model_id=self._request.model,
            params=self._request.params,
            gateway_request_id=self._request.request_id,
            stream_id=self._request.stream_id,
        )
        try:
            urls = await self._network.orchestrators.start_job(
                info, payment=payment, seg_creds=credentials, body=body
            )
        except OrchestratorError as error:
            if self._payer is not None:
                await self._payer.job_refused(error)
            raise
        self._manifest_id = urls.manifest_id
        self._kept.details = job_details(self._request, urls, self._host.last_update)
        self._network.pool.job_began(self._addr, self)
        if self._payer is not None:
            await self._payer.job_started(urls.manifest_id)
        if self._turn is not None:
            self._turn.credited()
        self._log = self._log.bind(manifest_id=urls.manifest_id)
        self._log.info("job started", price_wei_per_second=money.text(info.price or 0))
        return urls

    # the relay

    @property
    def _http(self) -> aiohttp.ClientSession:
        assert self._info is not None, "a job starts with an info"
        return self._network.orchestrators.http_for(self._info)

    async def _run(self, urls: JobUrls, http: aiohttp.ClientSession, former: FormerRun | None = None) -> None:
        log, resume = self._log, former is not None
        relay = self._relay = self._relay_of(urls, http, log, former)
        self._kept.position = relay.newest
        self._control = JsonPublisher(http, urls.control_url, resume=resume, log=log)
        self._open_channels = len(urls.channels)
        async with TaskGroup() as group:
            name = f"job {self._request.request_id}"
            group.create_task(relay.send(), name=f"{name} uplink")
            group.create_task(self._watch_uplink(relay), name=f"{name} uplink watch")
            group.create_task(relay.read(self._show), name=f"{name} downlink")
            group.create_task(self._control.run(), name=f"{name} control")
            liveness = Liveness(
                http,
                urls.publish_url,
                self._silence,
                is_to_blame=self._is_to_blame,
                timing=self._timing.liveness,
            )
            group.create_task(liveness.run(), name=f"{name} liveness")
            if urls.events_url:
                start = NEXT if resume else 0
                events = JsonSubscriber(http, urls.events_url, start=start, max_message=MAX_STATUS, log=log)
                group.create_task(self._worker.read(events), name=f"{name} events")
                group.create_task(self._worker.watch(), name=f"{name} watchdog")
            if self._payer is not None:
                group.create_task(self._payer.run(), name=f"{name} payments")
            relay.begin(self._host.on_started())
            self.started = True
            if self._held:
                self.hold()
            self._catch_up(self._control)

    def _catch_up(self, control: JsonPublisher) -> None:
        """Send the newest update as it was: the worker takes a message for the whole set of parameters."""
        known = None if self._former is None else self._former.last_update
        if self._host.last_update not in (None, known):
            control.publish(self._host.last_update)

    async def _watch_uplink(self, relay: Relay) -> None:
        while True:
            await relay.wait_too_slow(self._timing.max_slow)
            if await self._is_to_blame():
                detail = f"more than {MAX_IN_FLIGHT} segments were in flight"
                raise Ended(EndReason.ORCHESTRATOR_LOST, f"{self._url} is too slow: {detail}")

    def _silence(self) -> float:
        """For how many seconds something has been due from the orchestrator."""
        return 0.0 if self._relay is None else self._relay.silence(self._worker.last_event)

    async def _is_to_blame(self) -> bool:
        """Whether silence is the orchestrator's fault; not while nobody could take its place.

        Its credit and the time limit for output end the job anyway.
        """
        if not self._host.can_be_replaced():
            return False
        if await self._network.uplink.somebody_answers(self._addr):
            return True
        return self._silence() > self._timing.max_uplink_fault

    def _show(self, frame: Frame) -> None:
        if isinstance(frame, AccessUnit):
            self._candidate.paid_in_vain = False
            self._trusted.picture()
        self._host.on_output(frame)

    def _lost(self, error: ChannelError) -> Ended:
        url, left = self._url, self._payer.credit_left if self._payer is not None else None
        if left is None:
            return Ended(EndReason.ORCHESTRATOR_LOST, f"{url}: {error}")
        if left < 0:
            detail = f"{url} closed the stream: the credit that was paid for is used up"
            return Ended(EndReason.CREDIT_EXHAUSTED, detail)
        credit = f"{money.decimal(left, 0)} s of credit left by our estimate"
        return Ended(EndReason.ORCHESTRATOR_LOST, f"{url}: {error}, with {credit}")

    # the end

    async def _close_channels(self, *, leave: bool = False) -> None:
        """Close those to the worker; a server that does not answer now is told once it does."""
        left = []
        if self._relay is not None and not await self._relay.close(leave=leave):
            left.append(self._relay.uplink.url)
        if self._control is not None and not await self._control.close(leave=leave):
            left.append(self._control.url)
        for url in left:
            self._network.left_channels.add(self._http, url)

    async def _close_late_start(self, starting: asyncio.Task[JobUrls]) -> None:
        try:
            urls = await starting
        except OrchestratorError:
            return  # it did not start, so there is nothing to close
        self._relay = self._relay_of(urls, self._http, self._log)

    def _relay_of(
        self,
        urls: JobUrls,
        http: aiohttp.ClientSession,
        log: FilteringBoundLogger,
        former: FormerRun | None = None,
    ) -> Relay:
        return Relay(
            http,
            urls.publish_url,
            urls.subscribe_url,
            self._host.request_key_frame,
            log,
            resume=former is not None,
            after=None if former is None else former.after,
        )

    async def _close_payments(self, reason: EndReason) -> None:
        if self._turn is not None:
            await self._turn.close(self._payer, reason)
        elif self._payer is not None:
            await self._payer.close(reason)
