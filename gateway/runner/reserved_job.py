"""A reserved session on a live runner: its challenge, its first payment, the reserve, and its stop."""

from __future__ import annotations

import asyncio
from fractions import Fraction

from structlog.typing import FilteringBoundLogger
from typing_extensions import override

from gateway import money
from gateway.aio.inside import PUBLIC, Reach
from gateway.aio.tasks import spawn
from gateway.orchestrator.errors import OrchestratorError
from gateway.orchestrator.info import OrchestratorInfo
from gateway.paid_job.former_run import FormerRun
from gateway.paid_job.paid_job import JobTiming, PaidJob
from gateway.payments.payee import Payee
from gateway.payments.payer import Payer
from gateway.payments.resources import PaymentResources
from gateway.payments.signing_rules import PaymentFlow
from gateway.reason import Ended, EndReason
from gateway.runner.offer import RunnerOffer
from gateway.runner.payee import SessionPayee
from gateway.runner.reserve import Challenge, RunnerSession
from gateway.runner.reserving import check_challenge, reserve
from gateway.runner.resources import RunnerResources
from gateway.runner.selection import price_unit, rules
from gateway.runner.session_details import KeptSession, SessionDetails
from gateway.stream.seam import Candidate, JobHost, PublishRequest
from signer_client import LivePayment

DEFAULT_TIMING = JobTiming()


class ReservedJob(PaidJob):
    """The base of `RunnerJob`: all of it but the app. `left` is the session of the `former` run."""

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
        self._session: RunnerSession | None = None
        if former is not None and left is not None:
            assert isinstance(former.payer.payee, SessionPayee)
            self._offer, self._session, self._payee = left.offer, left.session, former.payer.payee
            self._pins.hold(self._url, left.payment_url)
            kept.begin(left, former.last_update)

    # the reserve

    async def _reserve(self) -> RunnerSession:
        """The offer, its challenge, the first payment and the session. Raises Ended."""
        resources = self._resources
        try:
            self._pins.hold(self._url)
            offer = self._offer = await resources.pool.take(self._url)
            asked = await self._ask(offer)
        except OrchestratorError as error:
            raise self._not_taken(error) from error
        if isinstance(asked, RunnerSession):
            return asked
        if resources.payments is None:
            raise Ended(EndReason.ORCHESTRATOR_LOST, f"{self._url}: it wants to be paid, but nothing is paid")
        payments = resources.payments.now()
        chosen = self._candidate.price or Fraction(0)
        check_challenge(resources.pool, offer, asked, ceiling=payments.ceiling, chosen=chosen)
        return await self._reserve_paid(offer, asked, payments)

    async def _ask(self, offer: RunnerOffer) -> Challenge | RunnerSession:
        """The challenge. Where nothing is to be paid it is the reserve, and is stopped if the stream ends."""

        async def ask() -> Challenge | RunnerSession:
            asked = await self._resources.client.ask(offer, price_unit(offer))
            if isinstance(asked, RunnerSession):
                self._session = asked
            return asked

        name = f"reserve {self._request.request_id}"
        self._starting = spawn(ask(), name=name, expected=(OrchestratorError,))
        return await asyncio.shield(self._starting)

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
        session, before = await reserve(self._resources.client, payee, payer, first)
        self._session = session
        self._kept.reserved(session)
        self._resources.pool.room_changed(self._url)
        await payer.job_started(payee.challenge.manifest_id, before=before)
        self._payments.credited()
        self._log.info(
            "session reserved",
            app=payee.offer.app,
            price_wei_per_second=money.text(payee.challenge.info.price or 0),
        )
        return session

    @property
    def _reach(self) -> Reach:
        """Where the URLs of this session may lead."""
        return PUBLIC if self._offer is None else self._offer.reach

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
        if self._session is not None and not leave:
            await self._end_work()
            await self._resources.stop(self._url, self._session, self._reach)

    async def _end_work(self) -> None:
        """Have what runs in the session end."""

    @override
    def _is_over(self) -> None:
        self._pins.release()
        if self._session is not None:
            self._resources.pool.room_changed(self._url, freed=True)
