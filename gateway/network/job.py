"""A job on an orchestrator: paid through the remote signer, with frames over trickle channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
from structlog.typing import FilteringBoundLogger
from typing_extensions import override

from gateway import money
from gateway.aio.tasks import TaskGroup
from gateway.network.job_details import job_details
from gateway.network.resources import NetworkResources
from gateway.network.worker_status import MAX_STATUS, WorkerStatus
from gateway.orchestrator.credentials import unsigned_credentials
from gateway.orchestrator.errors import OrchestratorError
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.job_start import JobRequest, JobUrls
from gateway.paid_job.former_run import FormerRun
from gateway.paid_job.paid_job import JobTiming, PaidJob
from gateway.payments.saved_jobs import JobDetails
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
from gateway.trickle.liveness import Liveness
from gateway.trickle.relay import Relay
from gateway.trickle.wire import NEXT


@dataclass(frozen=True)
class Timing(JobTiming):
    """Time limits after which a job is given up, in seconds."""

    max_worker_silence: float = 30.0
    """Without an event from the worker."""
    worker_check: float = 10.0
    """Between two checks of that."""
    max_uplink_fault: float = 10.0
    """Of silence while nobody else answers either: then the gateway's own uplink may be at fault."""


DEFAULT_TIMING = Timing()


class OrchestratorJob(PaidJob):
    """One job: a first payment, the start, then frames, payments and events until the end.

    With `former` it goes on with a job that another run of the gateway started, on `former_urls`, and is held
    at first.
    """

    resume_reserve = 2.0
    """Which is debited when pictures come again."""

    def __init__(
        self,
        network: NetworkResources,
        candidate: Candidate,
        request: PublishRequest,
        host: JobHost,
        log: FilteringBoundLogger,
        timing: Timing = DEFAULT_TIMING,
        former: FormerRun | None = None,
        former_urls: JobUrls | None = None,
    ) -> None:
        update = host.last_update if former is None else former.last_update
        self._kept = JobDetails(job_details(request, former_urls, update))
        """What another run of the gateway needs to go on, beside the payments."""
        super().__init__(
            candidate,
            request,
            host,
            log.bind(orchestrator=candidate.url),
            trusted=network.pool.job_opened(candidate.addr, candidate.address, self),
            first_payments=network.first_payments,
            timing=timing,
            details=self._kept,
            former=former,
        )
        self._urls = former_urls
        self._network = network
        self._addr = candidate.addr
        self._timing = timing
        self._info: OrchestratorInfo | None = None
        self._manifest_id = ""
        self._control: JsonPublisher | None = None
        self._worker = WorkerStatus(
            candidate.url,
            max_silence=timing.max_worker_silence,
            check_interval=timing.worker_check,
            tell=host.on_worker_event,
        )
        self._open_channels = 0
        if former is not None:
            self._info = former.payer.info
        if former_urls is not None:
            self._manifest_id = former_urls.manifest_id
            self._log = self._log.bind(manifest_id=self._manifest_id)

    # the stream's side

    async def run(self) -> None:
        """Pay, start and relay. Raises Ended."""
        urls = self._urls
        if urls is None:
            try:
                self._info = await self._network.pool.take(self._addr, self._candidate.price)
            except OrchestratorError as error:
                raise self._not_taken(error) from error
            urls = await self._start(self._info)
        else:
            self._log.info("job of a former run goes on")
        try:
            await self._run(urls)
        except ChannelError as error:
            raise self._lost(error) from error

    async def update(self, params: Mapping[str, Any]) -> Json:
        if not self.started:
            return {}  # the stream keeps them for the start
        if self._control is None or not self._control.publish(params):
            raise UpdateRefused("worker_busy", "too many updates wait for the worker: send fewer")
        if params.keys() != {"type"}:
            self._kept.details = {**self._kept.details, "last_update": dict(params)}
        return {}

    def status(self) -> JobStatus:
        info, control = self._info, self._control
        orchestrator = None
        if info is not None:
            orchestrator = OrchestratorRef(
                url=info.url, address=info.address, price=info.price, manifest_id=self._manifest_id
            )
        common = self._status(orchestrator)
        return replace(
            common,
            worker=self._worker.newest,
            held_bytes=common.held_bytes + (control.waiting_bytes if control else 0),
            channels=0 if self._closed else self._open_channels,
        )

    # the start

    async def _start(self, offer: OrchestratorInfo) -> JobUrls:
        """Sign the first payment and start the job with it."""
        network, info = self._network, offer
        if network.payments is None:
            payment, credentials = "", unsigned_credentials(info)
        else:
            payer, first = await self._first_payment(network.payments.now(), network.orchestrators, info)
            self._info = info = payer.info
            payment, credentials = first.payment, first.seg_creds
        urls = await self._start_with(
            self._start_job(info, payment, credentials),
            f"job-start {self._request.request_id}",
            "did not start the job",
        )
        return await self._start(offer) if urls is None else urls

    @override
    def _pays(self, info: OrchestratorInfo) -> None:
        self._network.pool.pays(self._addr, info)

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
        self._payments.credited()
        self._log = self._log.bind(manifest_id=urls.manifest_id)
        self._log.info("job started", price_wei_per_second=money.text(info.price or 0))
        return urls

    # the relay

    @property
    def _http(self) -> aiohttp.ClientSession:
        assert self._info is not None, "a job starts with an info"
        return self._network.orchestrators.http_for(self._info)

    async def _run(self, urls: JobUrls) -> None:
        http, log, resume = self._http, self._log, self._former is not None
        relay = self._relay_of(urls)
        self._kept.position = relay.newest
        self._control = JsonPublisher(http, urls.control_url, resume=resume, log=log)
        self._open_channels = len(urls.channels)
        async with TaskGroup() as group:
            name = f"job {self._request.request_id}"
            self._run_relay(group, name, relay)
            group.create_task(relay.read(self._show), name=f"{name} downlink")
            group.create_task(self._control.run(), name=f"{name} control")
            liveness = Liveness(
                http, urls.publish_url, self._silence, is_to_blame=self._is_to_blame, timing=self._liveness
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
            self._has_started()
            self._catch_up(self._control)

    def _catch_up(self, control: JsonPublisher) -> None:
        """Send the newest update as it was: the worker takes a message for the whole set of parameters."""
        known = None if self._former is None else self._former.last_update
        if self._host.last_update not in (None, known):
            control.publish(self._host.last_update)

    def _silence(self) -> float:
        """For how many seconds something has been due from the orchestrator."""
        return 0.0 if self._relay is None else self._relay.silence(self._worker.last_event)

    @override
    async def _is_to_blame(self) -> bool:
        """Whether silence is the orchestrator's fault; not while nobody could take its place.

        Its credit and the time limit for output end the job anyway.
        """
        if not self._host.can_be_replaced():
            return False
        if await self._network.uplink.somebody_answers(self._addr):
            return True
        return self._silence() > self._timing.max_uplink_fault

    # the end

    @override
    async def _give_back(self, *, leave: bool) -> None:
        """Close the channels to the worker; a server that does not answer now is told once it does."""
        left = []
        if self._relay is not None and not await self._relay.close(leave=leave):
            left.append(self._relay.uplink.url)
        if self._control is not None and not await self._control.close(leave=leave):
            left.append(self._control.url)
        for url in left:
            self._network.left_channels.add(self._http, url)

    @override
    async def _settle_start(self) -> None:
        if self._relay is not None:
            return
        if self._urls is not None:
            self._relay = self._relay_of(self._urls)
        elif self._starting is not None:
            try:
                urls = await self._starting
            except OrchestratorError:
                return  # it did not start, so there is nothing to close
            self._relay = self._relay_of(urls)

    @override
    def _is_over(self) -> None:
        self._network.pool.job_over(self._addr, self, ran=self._relay is not None)

    def _relay_of(self, urls: JobUrls) -> Relay:
        former = self._former
        return Relay(
            self._http,
            urls.publish_url,
            urls.subscribe_url,
            self._host.request_key_frame,
            self._log,
            resume=former is not None,
            after=None if former is None else former.after,
        )
