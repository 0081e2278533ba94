"""A job on a live runner: a reserved session that is paid, and frames over its app's channels."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from structlog.typing import FilteringBoundLogger

from gateway import money
from gateway.aio.inside import PUBLIC, Reach
from gateway.aio.tasks import TaskGroup, spawn
from gateway.media.frames import AccessUnit, Frame
from gateway.orchestrator.errors import (
    AlreadySeen,
    NoCapacity,
    OfferChanged,
    OrchestratorError,
    Refused,
    UnknownOutcome,
)
from gateway.payments.first_payments import Turn
from gateway.payments.job_identity import JobIdentity
from gateway.payments.payer import Payer
from gateway.payments.resources import PaymentResources
from gateway.payments.signing_rules import PaymentFlow
from gateway.reason import ChooseAgain, Ended, EndReason, NoRoom
from gateway.runner.app_start import AppChannels, start_app
from gateway.runner.errors import AppRefused, SessionTaken
from gateway.runner.offer import RunnerOffer
from gateway.runner.payee import SessionPayee
from gateway.runner.profile import AppProfile
from gateway.runner.reserve import Challenge, RunnerSession
from gateway.runner.resources import RunnerResources
from gateway.runner.selection import price_refusal, price_unit, rules
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
from gateway.trickle.liveness import Liveness, LivenessTiming
from gateway.trickle.publisher import MAX_IN_FLIGHT
from gateway.trickle.relay import Relay

RESUME_RESERVE = 1.0
"""Seconds of credit that a job keeps over a pause: who comes back pays first of all."""
RUNNER = "runner"
"""What this kind of job is called, by publishers and in status."""


@dataclass(frozen=True)
class Timing:
    """Time limits in seconds."""

    max_turn: float = 30.0
    """Until other streams' starts at the same orchestrator are answered."""
    max_unproven_start: float = 60.0
    """From the reserve to the first picture, where its payee has not delivered before."""
    max_slow: float = 0.25
    """With more than MAX_IN_FLIGHT segments in flight."""
    reserve_retry: float = 0.3
    """Between two tries of a reserve that was not answered."""
    liveness: LivenessTiming = field(default_factory=LivenessTiming)


DEFAULT_TIMING = Timing()
MAX_RESERVES = 4
"""Tries of a reserve that was not answered."""


class RunnerJob:
    """One job: challenge, first payment, reserve, the app's start, then frames and payments until the end.

    The session costs from its reserve on, so payments run beside the app's start.
    """

    def __init__(
        self,
        resources: RunnerResources,
        candidate: Candidate,
        request: PublishRequest,
        host: JobHost,
        log: FilteringBoundLogger,
        timing: Timing = DEFAULT_TIMING,
    ) -> None:
        self.started = False
        self.paid = False
        self.paused = False
        self._held = False
        self._resources = resources
        self._candidate = candidate
        self._trusted = resources.pool.job_opened(candidate.address)
        self._url = candidate.url
        self._request = request
        self._host = host
        self._timing = timing
        self._log = log.bind(runner=candidate.url)
        self._offer: RunnerOffer | None = None
        self._payee: SessionPayee | None = None
        self._payer: Payer | None = None
        self._turn: Turn | None = None
        self._reserving: asyncio.Task[RunnerSession] | None = None
        self._session: RunnerSession | None = None
        self._relay: Relay | None = None
        self._params: Json = {}
        """The stream's that the app has."""
        self._first_picture = asyncio.Event()
        self._closed = False

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
                channels = await self._start_app(session)
                self._begin(group, name, channels)
        except ChannelError as error:
            raise self._lost(error) from error

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
        if self._relay is not None and (self._profile.media.audio or isinstance(frame, AccessUnit)):
            self._relay.push(frame)

    async def update(self, params: Mapping[str, Any]) -> Json:
        session = self._session
        if not self.started or session is None:
            return {}  # the stream keeps them for the start
        profile = self._profile
        if not profile.update.path:
            raise UpdateRefused("worker_refused", f"the app {profile.app} takes no updates")
        wanted = {**self._params, **params}
        body = profile.start_body(wanted) if profile.update.whole else profile.translate(params)
        if not body:
            accepted = ", ".join(profile.params.names)
            raise UpdateRefused("worker_refused", f"the app {profile.app} takes {accepted}")
        try:
            url = f"{session.app_url}{profile.update.path}"
            answer = await self._resources.client.call_app(url, self._reach, body)
        except AppRefused as error:
            raise UpdateRefused("worker_refused", f"the app refused: {error.full}") from error
        except OrchestratorError as error:
            raise UpdateRefused("worker_silent", f"the app did not answer: {error}") from error
        self._params = wanted
        return dict(answer)

    async def close(self, reason: EndReason, *, leave: bool = False) -> None:
        """End the channels, the session at the orchestrator and the payments.

        No other run of the gateway goes on with a session, so it ends with `leave` too.
        """
        if self._relay is not None:
            self._relay.end_input()
        if self._reserving is not None and self._session is None:
            await asyncio.wait([self._reserving])  # a session that nobody stops would cost on
        try:
            await asyncio.gather(self._close_session(), self._close_payments(reason))
        finally:
            self._trusted.end(self._payer.status().credited if self._payer is not None else Fraction(0))
        self._closed = True

    def status(self) -> JobStatus:
        relay, offer = self._relay, self._offer
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
        return JobStatus(
            orchestrator=orchestrator,
            payments=self._payer.status() if self._payer else None,
            segments=relay.downlink.segments_read if relay else 0,
            gaps=relay.downlink.gaps if relay else 0,
            dropped=relay.uplink.dropped if relay else 0,
            held_bytes=relay.uplink.buffered if relay else 0,
            channels=2 if relay and not self._closed else 0,
            sessions=int(self._payer is not None and not self._closed),
        )

    # the reserve

    async def _reserve(self) -> RunnerSession:
        """The offer, its challenge, the first payment and the session. Raises Ended."""
        resources = self._resources
        try:
            offer = self._offer = await resources.pool.take(self._url)
            asked = await resources.client.ask(offer, price_unit(offer))
        except OfferChanged as error:
            raise ChooseAgain(EndReason.ORCHESTRATOR_LOST, f"{self._url}: {error}") from error
        except OrchestratorError as error:
            kind = NoRoom if isinstance(error, NoCapacity | SessionTaken) else Ended
            raise kind(EndReason.ORCHESTRATOR_LOST, f"{self._url}: {error}") from error
        if isinstance(asked, RunnerSession):
            self._session = asked
            return asked
        payments = resources.payments
        if payments is None:
            raise Ended(EndReason.ORCHESTRATOR_LOST, f"{self._url}: it wants to be paid, but nothing is paid")
        self._check_challenge(offer, asked, payments)
        return await self._reserve_paid(offer, asked, payments)

    def _check_challenge(self, offer: RunnerOffer, challenge: Challenge, payments: PaymentResources) -> None:
        """Raises ChooseAgain before anything is signed where it is not what the runner was chosen for."""
        why = price_refusal(offer, challenge.info, payments.ceiling, self._candidate.price or Fraction(0))
        if why is not None:
            raise ChooseAgain(EndReason.PRICE_RAISED, f"{self._url}: {why}")
        refusal = self._resources.pool.challenged(offer, challenge.info)
        if refusal is not None:
            raise ChooseAgain(EndReason.ORCHESTRATOR_LOST, f"{self._url}: {refusal[1]}")

    async def _reserve_paid(
        self, offer: RunnerOffer, challenge: Challenge, payments: PaymentResources
    ) -> RunnerSession:
        turn = await self._first_payment_turn(challenge.info.recipient)
        payer = self._payer = await self._open_payments(offer, challenge, payments, turn)
        first = await payer.first_payment()
        self.paid = turn.kept is None
        self._resources.pool.pays(offer, payer.info)
        if self.paid:
            self._trusted.paid()
        self._candidate.paid_in_vain = True
        assert self._payee is not None
        # a task of its own: if the stream ends meanwhile, the session is still written down, and stopped
        self._reserving = spawn(
            self._post_reserve(self._payee, payer, first.payment, first.seg_creds),
            name=f"reserve {self._request.request_id}",
            expected=(OrchestratorError, Ended),
        )
        try:
            return await asyncio.shield(self._reserving)
        except OrchestratorError as error:
            again = turn.kept is not None
            if again and isinstance(error, AlreadySeen | Refused):
                may_be_credited = payer.start_unanswered
                await self._close_payments(EndReason.ORCHESTRATOR_LOST)
                self._turn = self._payer = self._payee = None
                if may_be_credited:  # by the former reserve: this one needs a payment of its own
                    return await self._reserve()
            kind = NoRoom if isinstance(error, NoCapacity) and not again else Ended
            detail = f"{self._url} reserved no session: {error}"
            self._log.info("no session reserved", error=error.full)
            raise kind(EndReason.ORCHESTRATOR_LOST, detail) from error

    async def _first_payment_turn(self, recipient: str) -> Turn:
        try:
            async with asyncio.timeout(self._timing.max_turn):
                self._turn = await self._resources.first_payments.turn(recipient)
        except TimeoutError:
            detail = f"{self._url} has not answered another stream's reserve yet"
            raise NoRoom(EndReason.ORCHESTRATOR_LOST, detail) from None
        return self._turn

    async def _open_payments(
        self, offer: RunnerOffer, challenge: Challenge, payments: PaymentResources, turn: Turn
    ) -> Payer:
        """Who pays this job: one with a first payment that was handed out there before, or a new one."""
        request = self._request
        job = JobIdentity(
            stream=request.name, stream_id=request.stream_id, request_id=request.request_id, addr=offer.url
        )
        limit, budget = request.limits.wei, request.budget
        if turn.kept is None:
            self._payee = SessionPayee(self._resources.client, offer, challenge)
            flow = PaymentFlow(rules(offer), challenge.manifest_id, offer.app)
            return Payer(
                payments,
                self._payee,
                challenge.info,
                job=job,
                flow=flow,
                limit=limit,
                budget=budget,
                log=self._log,
            )
        self._payer = turn.kept  # which is kept again if it cannot serve this job
        payee = turn.kept.payee
        if not isinstance(payee, SessionPayee) or payee.offer.url != offer.url:
            detail = f"{self._url}: its former session's payment is for another app, and not credited yet"
            raise NoRoom(EndReason.ORCHESTRATOR_LOST, detail)
        self._payee = payee
        self._log.info("first payment of a former reserve is handed out again")
        await turn.kept.adopt(job, limit=limit, budget=budget, log=self._log)
        return turn.kept

    async def _post_reserve(
        self, payee: SessionPayee, payer: Payer, payment: str, seg_creds: str
    ) -> RunnerSession:
        """Reserve with the first payment; without an answer the same headers go again."""
        client, tries, in_doubt = self._resources.client, 0, payer.start_unanswered
        while True:
            tries += 1
            try:
                session = await client.reserve(
                    payee.offer, payee.challenge, payment=payment, seg_creds=seg_creds
                )
            except SessionTaken as error:
                if not in_doubt:  # the first try of all: in livepeer/node's dialect it has no room
                    full = NoCapacity(error.detail)
                    await payer.job_refused(full)
                    raise full from error
                session = RunnerSession.of_former_answer(payee.offer.url, payee.challenge.manifest_id)
            except UnknownOutcome as error:
                in_doubt = True
                if tries >= MAX_RESERVES:
                    await payer.job_refused(error)
                    raise
                await asyncio.sleep(self._timing.reserve_retry)
                continue
            except OrchestratorError as error:
                await payer.job_refused(error)
                raise
            break
        self._session = session
        self._resources.pool.room_changed(payee.offer.url)
        await payer.job_started(payee.challenge.manifest_id)
        if self._turn is not None:
            self._turn.credited()
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

    async def _start_app(self, session: RunnerSession) -> AppChannels:
        self._params = dict(self._host.params)
        try:
            return await start_app(
                self._resources.client, session.app_url, self._reach, self._profile, self._params
            )
        except AppRefused as error:
            detail = f"{self._url}: the app refused its parameters: {error}"
            raise Ended(EndReason.ORCHESTRATOR_LOST, detail) from error
        except OrchestratorError as error:
            detail = f"{self._url}: the app did not start: {error}"
            raise Ended(EndReason.ORCHESTRATOR_LOST, detail) from error

    def _begin(self, group: TaskGroup, name: str, channels: AppChannels) -> None:
        """Relay frames from now on."""
        http, host = self._resources.client.http_for(self._reach), self._host
        relay = self._relay = Relay(
            http, channels.input, channels.output, host.request_key_frame, self._log, name=self._url
        )
        group.create_task(relay.send(), name=f"{name} uplink")
        group.create_task(self._watch_uplink(relay), name=f"{name} uplink watch")
        group.create_task(self._read(relay), name=f"{name} downlink")
        liveness = Liveness(
            http, channels.input, relay.silence, is_to_blame=self._is_to_blame, timing=self._timing.liveness
        )
        group.create_task(liveness.run(), name=f"{name} liveness")
        group.create_task(self._catch_up(), name=f"{name} catch-up")
        relay.begin(host.on_started(), audio=self._profile.media.audio)
        self.started = True
        if self._held:
            self.hold()

    async def _read(self, relay: Relay) -> None:
        await relay.read(self._on_output)
        raise Ended(EndReason.ORCHESTRATOR_LOST, f"{self._url}: the app has ended its output")

    def _on_output(self, frame: Frame) -> None:
        if isinstance(frame, AccessUnit):
            self._candidate.paid_in_vain = False
            self._first_picture.set()
            self._trusted.picture()
        self._host.on_output(frame)

    async def _catch_up(self) -> None:
        """Send what was updated since the app's start was requested."""
        newer = {key: value for key, value in self._host.params.items() if self._params.get(key) != value}
        if newer:
            try:
                await self.update(newer)
            except UpdateRefused as error:
                self._log.warning("the app did not take a change", detail=str(error))

    async def _watch_uplink(self, relay: Relay) -> None:
        while True:
            await relay.wait_too_slow(self._timing.max_slow)
            if await self._is_to_blame():
                detail = f"more than {MAX_IN_FLIGHT} segments were in flight"
                raise Ended(EndReason.ORCHESTRATOR_LOST, f"{self._url} is too slow: {detail}")

    async def _is_to_blame(self) -> bool:
        return self._host.can_be_replaced()

    def _lost(self, error: ChannelError) -> Ended:
        left = self._payer.credit_left if self._payer is not None else None
        if left is not None and left < 0:
            detail = f"{self._url} closed the session: the credit that was paid for is used up"
            return Ended(EndReason.CREDIT_EXHAUSTED, detail)
        return Ended(EndReason.ORCHESTRATOR_LOST, f"{self._url}: {type(error).__name__}")

    # the end

    async def _close_session(self) -> None:
        if self._relay is not None:
            await self._relay.close()
        session = self._session
        if session is None:
            return
        client = self._resources.client
        if not await client.stop(session.control_url, self._reach):
            await client.stop(session.control_url, self._reach)
        self._resources.pool.room_changed(self._url, freed=True)

    async def _close_payments(self, reason: EndReason) -> None:
        if self._turn is not None:
            await self._turn.close(self._payer, reason)
