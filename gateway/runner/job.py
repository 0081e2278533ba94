"""A job on a live runner: a reserved session that is paid, and frames over its app's channels."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
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
from gateway.paid_job.former_run import FormerRun
from gateway.paid_job.paid_job import JobTiming, PaidJob
from gateway.payments.payee import Payee
from gateway.payments.payer import Payer
from gateway.payments.resources import PaymentResources
from gateway.payments.signing_rules import PaymentFlow
from gateway.reason import Ended, EndReason
from gateway.runner.app_session import AppSession
from gateway.runner.app_start import AppChannels
from gateway.runner.first_picture import FirstPicture
from gateway.runner.offer import RunnerOffer
from gateway.runner.payee import SessionPayee
from gateway.runner.profile import AppProfile
from gateway.runner.reserve import Challenge, RunnerSession
from gateway.runner.reserving import check_challenge, reserve
from gateway.runner.resources import RunnerResources
from gateway.runner.selection import price_unit, rules
from gateway.runner.session_details import KeptSession, SessionDetails, shown
from gateway.stream.seam import (
    Candidate,
    JobHost,
    JobStatus,
    Json,
    PublishRequest,
)
from gateway.trickle.errors import ChannelError
from gateway.trickle.liveness import Liveness
from gateway.trickle.relay import Relay
from signer_client import LivePayment

DEFAULT_TIMING = JobTiming()


class RunnerJob(PaidJob):
    """One job: challenge, first payment, reserve, the app's start, then frames and payments until the end.

    The session costs from its reserve on, so payments run beside the app's start. With `former` it goes on
    with the session that another run of the gateway left, and is held at first.
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
        timing: JobTiming = DEFAULT_TIMING,
        former: FormerRun | None = None,
        left: SessionDetails | None = None,
    ) -> None:
        kept = self._kept = KeptSession(request)
        """What another run of the gateway needs to go on."""
        super().__init__(
            candidate,
            request,
            host,
            log.bind(runner=candidate.url),
            trusted=resources.pool.job_opened(candidate.address),
            first_payments=resources.first_payments,
            timing=timing,
            details=kept.written,
            former=former,
        )
        self._resources = resources
        self._pins = resources.client.pins()
        self._offer: RunnerOffer | None = None
        self._payee: SessionPayee | None = None
        self._picture: FirstPicture | None = None
        self._session: RunnerSession | None = None
        self._app: AppSession | None = None
        if former is not None and left is not None:
            assert isinstance(former.payer.payee, SessionPayee)
            self._offer, self._session, self._payee = left.offer, left.session, former.payer.payee
            kept.begin(left, former.last_update)

    # the stream's side

    async def run(self) -> None:
        """Reserve, pay, start the app and relay. Raises Ended."""
        session = self._session
        if session is None:
            session = await self._reserve()
        else:
            self._log.info("session of a former run goes on")
        self._pins.hold(session.app_url, session.control_url)
        try:
            async with TaskGroup() as group:
                name = f"job {self._request.request_id}"
                if self._payer is not None:
                    group.create_task(self._payer.run(), name=f"{name} payments")
                limit = self._profile.limits.first_picture
                picture = self._picture = FirstPicture(limit, proven=self._candidate.proven)
                group.create_task(picture.watch(self._url), name=f"{name} first picture")
                app = self._app = AppSession(
                    self._resources.client, session, self._reach, self._profile, name=self._url
                )
                self._begin(group, name, app, *await self._channels(app))
        except (ChannelError, Ended) as error:
            raise self._end_of(error) from None

    @override
    def push(self, frame: Frame) -> None:
        if self._relay is not None and (self._profile.media.audio or isinstance(frame, AccessUnit)):
            super().push(frame)

    async def update(self, params: Mapping[str, Any]) -> Json:
        if not self.started or self._app is None:
            return {}  # the stream keeps them for the start
        answer = await self._app.update(params)
        self._kept.app_has(None, self._app.params, updated=True)
        return answer

    def status(self) -> JobStatus:
        orchestrator = None if self._offer is None else shown(self._offer, self._payee)
        return replace(self._status(orchestrator), channels=2 if self._relay and not self._closed else 0)

    # the reserve

    async def _reserve(self) -> RunnerSession:
        """The offer, its challenge, the first payment and the session. Raises Ended."""
        resources = self._resources
        try:
            self._pins.hold(self._url)
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
        assert self._payee is not None
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
    def _paid_through(self, payee: Payee) -> None:
        """A former session's payee, where its payment is handed out again."""
        assert isinstance(payee, SessionPayee)
        self._payee = payee
        self._pins.hold(payee.challenge.payment_url)
        self._kept.begin(SessionDetails(offer=payee.offer, payment_url=payee.challenge.payment_url))

    @override
    def _pays(self, info: OrchestratorInfo) -> None:
        assert self._offer is not None, "there is an offer before a payment"
        self._resources.pool.pays(self._offer, info)

    async def _post_reserve(self, payee: SessionPayee, payer: Payer, first: LivePayment) -> RunnerSession:
        session = self._session = await reserve(self._resources.client, payee, payer, first)
        self._kept.reserved(session)
        self._resources.pool.room_changed(self._url)
        await payer.job_started(payee.challenge.manifest_id)
        self._payments.credited()
        self._log.info(
            "session reserved",
            app=payee.offer.app,
            price_wei_per_second=money.text(payee.challenge.info.price or 0),
        )
        return session

    def _end_of(self, error: ChannelError | Ended) -> Ended:
        if isinstance(error, ChannelError):
            return self._lost(type(error).__name__)  # its text may name a channel, a secret
        if self._payee is not None and self._payee.over:
            detail = f"{self._url} has ended the session: {error.detail}"
            error = Ended(EndReason.ORCHESTRATOR_LOST, detail)
        return self._excused(error)

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

    async def _channels(self, app: AppSession) -> tuple[AppChannels, FormerRun | None]:
        """Its channels, with the former run that has used them; else it is started. Raises Ended."""
        kept = self._kept.now
        if kept is not None and kept.channels is not None:
            app.params = dict(kept.params)
            return kept.channels, self._former
        channels = await app.start(self._host.params)
        self._kept.app_has(channels, app.params, updated=self._host.last_update is not None)
        return channels, None

    def _begin(
        self, group: TaskGroup, name: str, app: AppSession, channels: AppChannels, former: FormerRun | None
    ) -> None:
        """Relay frames from now on."""
        http, host = self._resources.client.http_for(self._reach), self._host
        relay = Relay(
            http,
            channels.input,
            channels.output,
            host.request_key_frame,
            self._log,
            name=self._url,
            resume=former is not None,
            after=None if former is None else former.after,
        )
        self._pins.hold(channels.input, channels.output)
        self._kept.written.position = relay.newest
        self._run_relay(group, name, relay)
        group.create_task(self._read(relay), name=f"{name} downlink")
        liveness = Liveness(
            http, channels.input, relay.silence, is_to_blame=self._is_to_blame, timing=self._liveness
        )
        group.create_task(liveness.run(), name=f"{name} liveness")
        group.create_task(app.catch_up(host, self._log), name=f"{name} catch-up")
        relay.begin(host.on_started(), audio=self._profile.media.audio)
        self._has_started()

    async def _read(self, relay: Relay) -> None:
        await relay.read(self._show)
        raise Ended(EndReason.ORCHESTRATOR_LOST, f"{self._url}: the app has ended its output")

    @override
    def _show(self, frame: Frame) -> None:
        if isinstance(frame, AccessUnit) and self._picture is not None:
            self._picture.came()
        super()._show(frame)

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
        """Close the channels, and stop the session unless another run is to go on with it."""
        if self._relay is not None:
            await self._relay.close(leave=leave)
        session, client = self._session, self._resources.client
        if session is None or leave:
            return
        if not await client.stop(session.control_url, self._reach):
            await client.stop(session.control_url, self._reach)

    @override
    def _is_over(self) -> None:
        self._pins.release()
        if self._session is not None:
            self._resources.pool.room_changed(self._url, freed=True)
