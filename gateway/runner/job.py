"""A job on a live runner: a reserved session that is paid, and frames over its app's channels."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from structlog.typing import FilteringBoundLogger
from typing_extensions import override

from gateway import money
from gateway.aio.inside import PUBLIC, Reach
from gateway.aio.tasks import TaskGroup
from gateway.media.frames import AccessUnit, Frame
from gateway.orchestrator.errors import OrchestratorError
from gateway.orchestrator.info import OrchestratorInfo
from gateway.paid_job.paid_job import JobTiming, PaidJob
from gateway.payments.payee import Payee
from gateway.payments.payer import Payer
from gateway.payments.resources import PaymentResources
from gateway.payments.signing_rules import PaymentFlow
from gateway.reason import Ended, EndReason
from gateway.runner.app_session import AppSession
from gateway.runner.app_start import AppChannels
from gateway.runner.offer import RunnerOffer
from gateway.runner.payee import SessionPayee
from gateway.runner.profile import AppProfile
from gateway.runner.reserve import Challenge, RunnerSession
from gateway.runner.reserving import check_challenge, reserve
from gateway.runner.resources import RunnerResources
from gateway.runner.selection import price_unit, rules
from gateway.stream.seam import (
    Candidate,
    JobHost,
    JobStatus,
    Json,
    OrchestratorRef,
    PublishRequest,
    UpdateRefused,
)
from gateway.trickle.errors import ChannelError
from gateway.trickle.liveness import Liveness
from gateway.trickle.relay import Relay
from signer_client import LivePayment

RUNNER = "runner"
"""What this kind of job is called, by publishers and in status."""


@dataclass(frozen=True)
class Timing(JobTiming):
    """Time limits in seconds."""

    max_unproven_start: float = 60.0
    """From the reserve to the first picture, where its payee has not delivered before."""


DEFAULT_TIMING = Timing()


class RunnerJob(PaidJob):
    """One job: challenge, first payment, reserve, the app's start, then frames and payments until the end.

    The session costs from its reserve on, so payments run beside the app's start.
    """

    resume_reserve = 1.0
    """Who comes back pays first of all."""

    def __init__(
        self,
        resources: RunnerResources,
        candidate: Candidate,
        request: PublishRequest,
        host: JobHost,
        log: FilteringBoundLogger,
        timing: Timing = DEFAULT_TIMING,
    ) -> None:
        super().__init__(
            candidate,
            request,
            host,
            log.bind(runner=candidate.url),
            trusted=resources.pool.job_opened(candidate.address),
            first_payments=resources.first_payments,
            timing=timing,
        )
        self._resources = resources
        self._timing = timing
        self._offer: RunnerOffer | None = None
        self._payee: SessionPayee | None = None
        self._session: RunnerSession | None = None
        self._app: AppSession | None = None
        self._first_picture = asyncio.Event()

    # the stream's side

    async def run(self) -> None:
        """Reserve, pay, start the app and relay. Raises Ended."""
        session = await self._reserve()
        try:
            async with TaskGroup() as group:
                name = f"job {self._request.request_id}"
                if self._payer is not None:
                    group.create_task(self._pay(self._payer), name=f"{name} payments")
                group.create_task(self._watch_first_picture(), name=f"{name} first picture")
                app = self._app = AppSession(
                    self._resources.client, session, self._reach, self._profile, name=self._url
                )
                self._begin(group, name, app, await app.start(self._host.params))
        except ChannelError as error:
            raise self._lost(type(error).__name__) from error  # its text may name a channel, a secret

    @override
    def push(self, frame: Frame) -> None:
        if self._relay is not None and (self._profile.media.audio or isinstance(frame, AccessUnit)):
            super().push(frame)

    async def update(self, params: Mapping[str, Any]) -> Json:
        if not self.started or self._app is None:
            return {}  # the stream keeps them for the start
        return await self._app.update(params)

    def status(self) -> JobStatus:
        offer = self._offer
        orchestrator = None
        if offer is not None:
            info = None if self._payee is None else self._payee.challenge.info
            orchestrator = OrchestratorRef(
                url=offer.url,
                address="" if info is None else info.address,
                price=offer.price if info is None else info.price,
                kind=RUNNER,
                app=offer.app,
                version=offer.version,
                gpu=offer.gpu,
            )
        return replace(self._status(orchestrator), channels=2 if self._relay and not self._closed else 0)

    # the reserve

    async def _reserve(self) -> RunnerSession:
        """The offer, its challenge, the first payment and the session. Raises Ended."""
        resources = self._resources
        try:
            offer = self._offer = await resources.pool.take(self._url)
            asked = await resources.client.ask(offer, price_unit(offer))
        except OrchestratorError as error:
            raise self._not_taken(error) from error
        if isinstance(asked, RunnerSession):
            self._session = asked
            return asked
        payments = resources.payments
        if payments is None:
            raise Ended(EndReason.ORCHESTRATOR_LOST, f"{self._url}: it wants to be paid, but nothing is paid")
        chosen = self._candidate.price or Fraction(0)
        check_challenge(resources.pool, offer, asked, ceiling=payments.ceiling, chosen=chosen)
        return await self._reserve_paid(offer, asked, payments)

    async def _reserve_paid(
        self, offer: RunnerOffer, challenge: Challenge, payments: PaymentResources
    ) -> RunnerSession:
        client = self._resources.client
        flow = PaymentFlow(rules(offer), challenge.manifest_id, offer.app)
        payee = SessionPayee(client, offer, challenge)
        payer, first = await self._first_payment(payments, payee, challenge.info, flow)
        assert isinstance(payer.payee, SessionPayee)
        self._payee = payer.payee  # the former session's, where its payment is handed out again
        session = await self._start_with(
            self._post_reserve(self._payee, payer, first),
            f"reserve {self._request.request_id}",
            "reserved no session",
        )
        return await self._reserve() if session is None else session

    @override
    def _serves(self, payee: Payee) -> bool:
        """A session's payment is for one runner."""
        return isinstance(payee, SessionPayee) and payee.offer.url == self._url

    @override
    def _pays(self, info: OrchestratorInfo) -> None:
        assert self._offer is not None, "there is an offer before a payment"
        self._resources.pool.pays(self._offer, info)

    async def _post_reserve(self, payee: SessionPayee, payer: Payer, first: LivePayment) -> RunnerSession:
        session = self._session = await reserve(self._resources.client, payee, payer, first)
        self._resources.pool.room_changed(self._url)
        await payer.job_started(payee.challenge.manifest_id)
        self._payments.credited()
        self._log.info(
            "session reserved",
            app=payee.offer.app,
            price_wei_per_second=money.text(payee.challenge.info.price or 0),
        )
        return session

    async def _pay(self, payer: Payer) -> None:
        try:
            await payer.run()
        except Ended as error:
            if self._payee is not None and self._payee.over:
                detail = f"{self._url} has ended the session: {error.detail}"
                raise Ended(EndReason.ORCHESTRATOR_LOST, detail) from error
            raise

    async def _watch_first_picture(self) -> None:
        """Raises Ended where none comes in time: who has not delivered before is not paid long for it."""
        limit = self._profile.limits.first_picture
        if not self._candidate.proven:
            limit = min(limit, self._timing.max_unproven_start)
        try:
            async with asyncio.timeout(limit):
                await self._first_picture.wait()
        except TimeoutError:
            detail = f"{self._url} showed no picture within {limit:g} s of the session's reserve"
            raise Ended(EndReason.ORCHESTRATOR_LOST, detail) from None

    # the app

    @property
    def _profile(self) -> AppProfile:
        offer = self._offer
        assert offer is not None
        return self._resources.profiles[offer.app]

    @property
    def _reach(self) -> Reach:
        """Where the URLs of this session may lead."""
        return PUBLIC if self._offer is None else self._offer.reach

    def _begin(self, group: TaskGroup, name: str, app: AppSession, channels: AppChannels) -> None:
        """Relay frames from now on."""
        http, host = self._resources.client.http_for(self._reach), self._host
        relay = Relay(
            http, channels.input, channels.output, host.request_key_frame, self._log, name=self._url
        )
        self._run_relay(group, name, relay)
        group.create_task(self._read(relay), name=f"{name} downlink")
        liveness = Liveness(
            http, channels.input, relay.silence, is_to_blame=self._is_to_blame, timing=self._liveness
        )
        group.create_task(liveness.run(), name=f"{name} liveness")
        group.create_task(self._catch_up(app), name=f"{name} catch-up")
        relay.begin(host.on_started(), audio=self._profile.media.audio)
        self._has_started()

    async def _read(self, relay: Relay) -> None:
        await relay.read(self._show)
        raise Ended(EndReason.ORCHESTRATOR_LOST, f"{self._url}: the app has ended its output")

    @override
    def _show(self, frame: Frame) -> None:
        if isinstance(frame, AccessUnit):
            self._first_picture.set()
        super()._show(frame)

    async def _catch_up(self, app: AppSession) -> None:
        """Send what was updated since the app's start was requested."""
        try:
            await app.catch_up(self._host.params)
        except UpdateRefused as error:
            self._log.warning("the app did not take a change", detail=str(error))

    @override
    async def _is_to_blame(self) -> bool:
        return self._host.can_be_replaced()

    # the end

    @override
    async def _settle_start(self) -> None:
        if self._starting is not None and self._session is None:
            await asyncio.wait([self._starting])  # a session that nobody stops would cost on

    @override
    async def _give_back(self, *, leave: bool) -> None:
        """Close the channels, and stop the session."""
        if self._relay is not None:
            await self._relay.close()
        session = self._session
        if session is None:
            return
        client = self._resources.client
        if not await client.stop(session.control_url, self._reach):
            await client.stop(session.control_url, self._reach)

    @override
    def _is_over(self) -> None:
        if self._session is not None:
            self._resources.pool.room_changed(self._url, freed=True)
