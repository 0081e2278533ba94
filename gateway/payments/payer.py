"""Pays for one job: does what its payment session asks for, and tells the session the results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger

from gateway import money
from gateway.aio.tasks import spawn
from gateway.orchestrator.errors import (
    AlreadySeen,
    BadAnswer,
    NoCapacity,
    OrchestratorError,
    Refused,
)
from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.actions import Action, Deliver, Leave, Refresh, RefreshKind, Sign, StartJob, Wait
from gateway.payments.alarms import Alarms
from gateway.payments.cadence import Cadence
from gateway.payments.customer import ANYBODY, Customer
from gateway.payments.delivery import Delivery
from gateway.payments.figures import json_seconds
from gateway.payments.job_identity import JobIdentity
from gateway.payments.journal import Journal
from gateway.payments.ledger import SessionRecord
from gateway.payments.payee import Payee
from gateway.payments.payment_trace import PaymentTrace
from gateway.payments.resources import PaymentResources
from gateway.payments.saved_jobs import FormerJob, JobDetails
from gateway.payments.schedule import FIRST_BACKOFF
from gateway.payments.session import PaymentSession
from gateway.payments.shared_limits import HoldRequest
from gateway.payments.signing import Signing
from gateway.payments.signing_rules import JOB_FLOW, PaymentFlow
from gateway.payments.spending import NOBODY, Hold, PublisherBudget, SpendLimitReached
from gateway.payments.status import PaymentState, PaymentStatus
from gateway.payments.timebase import NANOSECONDS, now_ns, seconds_between
from gateway.reason import Ended, EndReason
from gateway.telemetry import tracing
from signer_client import LivePayment


class Payer:
    """Pays one orchestrator for one job.

    Call `first_payment`, start the job with it, then `job_started` or `job_refused`; `run` pays until it is
    cancelled or raises Ended; call `close` in every case. A first payment that nobody credited may serve
    another job: `adopt` comes before its `first_payment` then. `limit` is the most that the stream may cost
    in wei, `budget` what all of its publisher may, `clock` monotonic nanoseconds that go on while the machine
    sleeps. `details` are what the job itself needs to go on in another run of the gateway: they are kept with
    each payment; None keeps nothing. `former` is a job of a former run with its session.
    """

    def __init__(
        self,
        resources: PaymentResources,
        orchestrator: Payee,
        info: OrchestratorInfo,
        *,
        job: JobIdentity,
        flow: PaymentFlow = JOB_FLOW,
        limit: int | None = None,
        budget: PublisherBudget = NOBODY,
        clock: Callable[[], int] = now_ns,
        first_backoff: int = FIRST_BACKOFF,
        log: FilteringBoundLogger | None = None,
        details: JobDetails | None = None,
        former: tuple[FormerJob, PaymentSession] | None = None,
    ) -> None:
        self._resources = resources
        self._orchestrator = orchestrator
        self._flow = flow
        self._clock = clock
        self._session = (
            former[1]
            if former is not None
            else PaymentSession(
                info,
                interval=resources.interval,
                ceiling=resources.ceiling,
                ticket_limits=resources.ticket_limits,
                first_backoff=first_backoff,
                flow=flow,
            )
        )
        self._journal = Journal(
            resources.ledger,
            SessionRecord(
                job=job,
                sender=resources.sender,
                orchestrator_address=info.recipient,
                orchestrator_url=info.url,
                price=info.price or Fraction(0),
                ceiling=resources.ceiling,
                interval_ns=resources.interval,
                publisher=budget.publisher,
                flow=flow,
            ),
            self._session,
            details,
            session="" if former is None else former[0].session_id,
            number=0 if former is None else former[0].signed,
        )
        self._trace = PaymentTrace(job, info.url)
        self._serve(job, limit, budget, log if log is not None else structlog.get_logger("payments"))
        self.start_unanswered = False
        """Whether a start that may be repeated got no answer: its payment may have been credited."""
        self.refused_starts = 0
        """How many starts with the first payment have failed in this run of the gateway."""
        self._may_sign = asyncio.Event()
        self._may_sign.set()
        self._paused_at: int | None = None
        self._under_way: asyncio.Task[Any] | None = None
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    def restored(
        cls,
        resources: PaymentResources,
        orchestrator: Payee,
        former: FormerJob,
        session: PaymentSession,
        *,
        limit: int | None,
        budget: PublisherBudget,
        log: FilteringBoundLogger,
        customer: Customer = ANYBODY,
        clock: Callable[[], int] = now_ns,
    ) -> Payer:
        """Who goes on with a session of a former run, by `session` as it was then. It signs nothing yet."""
        payer = cls(
            resources,
            orchestrator,
            session.info,
            job=replace(former.job, customer=customer),
            flow=session.flow,
            limit=limit,
            budget=budget,
            clock=clock,
            log=log,
            former=(former, session),
        )
        if session.pending is not None:
            payer._signing.hold = resources.spending.restored_hold(
                former.job.request_id, budget, session.pending.value, former.signed_wall_ns
            )
        payer.pause()
        return payer

    def _serve(
        self, job: JobIdentity, limit: int | None, budget: PublisherBudget, log: FilteringBoundLogger
    ) -> None:
        self._job, self._log, self._trace.job = job, log, job
        self._alarms = Alarms(log, self._resources.events_of(job, budget))
        self._signing = Signing(
            self._resources,
            self._session,
            self._journal,
            self._alarms,
            capabilities=self._orchestrator.capabilities,
            flow=self._flow,
            customer=job.customer,
            stream=job.request_id,
            limit=limit,
            budget=budget,
            clock=self._clock,
            log=log,
        )
        self._delivery = Delivery(
            self._orchestrator, self._session, self._journal, self._alarms, clock=self._clock, log=log
        )

    # the job's side

    def keep(self, details: JobDetails) -> None:
        """Keep these with each payment from now on."""
        self._journal.details = details

    async def details_changed(self) -> None:
        """Keep the details as they are now: the next payment may be long in coming. Raises Ended."""
        await self._journal.details_changed()

    async def adopt(
        self,
        job: JobIdentity,
        *,
        limit: int | None,
        budget: PublisherBudget,
        log: FilteringBoundLogger,
        details: JobDetails | None = None,
    ) -> None:
        """Serve another job from now on, with the first payment that nobody credited. Raises Ended."""
        hold = self._signing.hold
        assert hold is not None
        try:
            hold = self._resources.spending.move(hold, job.request_id, limit, budget)
        except SpendLimitReached as error:
            raise Ended(EndReason.SPEND_LIMIT, str(error)) from error
        job = replace(job, addr=self._job.addr)
        self._serve(job, limit, budget, log)
        self._journal.details = details
        self._signing.hold = hold
        self.resume()
        self._session.start_again()
        await self._finish(self._move(job, hold))

    async def _move(self, job: JobIdentity, hold: Hold) -> None:
        """Count the first payment for another job, within the limits of a cluster where there is one."""
        request, resources = None, self._resources
        if resources.ledger.shared:
            request = HoldRequest(hold.wei, job.request_id, hold.budget, resources.spending.limits)
        try:
            await self._journal.move(job, hold.budget.publisher, request)
        except SpendLimitReached as error:
            raise Ended(EndReason.SPEND_LIMIT, str(error)) from error

    @property
    def first_payment_usable(self) -> bool:
        """Whether the first payment is signed, was not credited, and may serve another job."""
        return self._session.first_payment_usable(self._clock())

    @property
    def needs_challenge(self) -> bool:
        """Whether the first payment can only be made on a newer challenge of the live runner."""
        return self._session.needs_challenge

    async def first_payment(self) -> LivePayment:
        """Open the session and get the payment for the job's start. Raises Ended where there is none."""
        action = self._session.next(self._clock())
        if isinstance(action, Leave):
            raise Ended(action.reason, action.detail)
        if not self._journal.opened:
            self._announce_cadence()
            await self._finish(self._journal.open())
        while not isinstance(action, StartJob):
            await self._do(action)
            action = self._session.next(self._clock())
        await self._finish(self._delivery.starting(action.payment))
        self._trace.starting()
        return action.payment.live

    async def job_started(self, manifest_id: str, *, before: bool = False) -> None:
        """The job runs under this id: its first payment is credited, and its time costs from now on.

        `before`: an earlier try started it, whose answer was lost.
        """
        self._session.started(manifest_id, self._clock(), before=before)
        self._trace.start_answered()
        self._trace.over()
        secret = bool(self._flow.app)  # who knows a live runner's session may use and stop it
        detail = "session reserved" if secret else f"job started, manifest id {manifest_id or 'missing'}"
        await self._finish(self._delivery.started(detail))

    async def job_refused(self, error: OrchestratorError) -> None:
        """The job did not start; the error tells whether its payment may have been credited."""
        self.refused_starts += 1
        settled = isinstance(error, Refused | AlreadySeen | BadAnswer)
        if not settled and not isinstance(error, NoCapacity):
            self.start_unanswered = True
        self._session.start_failed(str(error), settled=settled)
        self._trace.start_answered(str(error))
        if settled:
            self._trace.over("the orchestrator refused it")
        await self._finish(self._delivery.start_failed(error))

    async def run(self) -> None:
        """Pay until cancelled. Raises Ended with the reason to leave the orchestrator."""
        if self._session.pending is not None and not self._session.handed_out:
            await self._may_sign.wait()  # nobody has it yet, and nobody may come back
        while True:
            await self._do(self._session.next(self._clock()))

    def pause(self, *, owed: bool = False) -> None:
        """Sign nothing until `resume`. By default the pause is owed only where that follows."""
        self._may_sign.clear()
        self._paused_at = None if owed else self._clock()

    def resume(self) -> None:
        self._may_sign.set()
        self._paused_at = None

    @property
    def resumable(self) -> bool:
        """Whether another run of the gateway could go on with it."""
        return self._journal.details is not None and not self._session.leaving and self._closing is None

    async def forget_job(self) -> bool:
        """The job is about to be ended: see that no other node goes on with it.

        False where one does, or where the ledger does not say: then the job is not this node's to end.
        """
        if not self._resources.ledger.shared:
            return True
        try:
            await self._journal.forget_job()
        except Ended as why:
            self._log.info("the job is left at the orchestrator", why=why.detail)
            return False
        return True

    async def leave(self) -> None:
        """Leave the session open for another run: finish what is under way and write it down."""
        if self._under_way is not None:
            await asyncio.wait([self._under_way])
        self._log.info("payments are left for the next start")

    async def close(self, reason: EndReason) -> None:
        """End the session: sign nothing more, finish what is under way and write it down.

        Goes on in the background where the caller is cancelled.
        """
        if self._closing is None:
            self._session.end(self._clock() if self._paused_at is None else self._paused_at)
            self._closing = spawn(self._settle(reason), name=f"payment-settling {self._job.request_id}")
        await asyncio.shield(self._closing)

    # what others may look at

    @property
    def customer(self) -> Customer:
        """Whom the stream is for that it pays for now."""
        return self._job.customer

    @property
    def payee(self) -> Payee:
        """Who is paid."""
        return self._orchestrator

    @property
    def info(self) -> OrchestratorInfo:
        """The newest OrchestratorInfo that is paid on."""
        return self._session.info

    @property
    def start_may_last(self) -> Fraction:
        """Seconds for which the first payment alone can still pay a job that an unanswered start began."""
        billing = self._session.billing
        return billing.first / billing.price - billing.unbilled(self._clock())

    @property
    def seconds_paid(self) -> Fraction:
        """Seconds that all payments so far are worth."""
        billing = self._session.billing
        return billing.total / billing.price if billing.payments else Fraction(0)

    @property
    def seconds_after_next(self) -> Fraction:
        """The same, at most, once there is another one. Only while the job runs."""
        billing, info = self._session.billing, self._session.info
        assert info.ticket_ev
        due = max(self._clock(), self._session.schedule.due) + NANOSECONDS  # it may wait for a whole second
        tickets = max(1, ceil(billing.unbilled_tickets(info, due)))
        return self.seconds_paid + tickets * info.ticket_ev / billing.price

    @property
    def credit_left(self) -> Fraction | None:
        """Seconds of stream that are paid for in advance, by our estimate; None before the job runs."""
        return self._session.balance.seconds_left(self._clock())

    def status(self) -> PaymentStatus:
        """The account of this job's payments."""
        session, balance, now = self._session, self._session.balance, self._clock()
        return PaymentStatus(
            accepted=balance.accepted,
            tickets=balance.tickets,
            credited=balance.credited,
            owed=balance.owed(now),
            overpaid=max(Fraction(0), balance.left(now)) if session.ended else session.billing.overpaid,
            last_accepted_age=seconds_between(balance.last_accepted_at, now),
            next_due_in=seconds_between(now, session.due_at),
            credit_left=balance.seconds_left(now),
            state=self._state(),
            alarms=self._alarms.count,
        )

    def _state(self) -> PaymentState:
        if self._session.schedule.failures:
            return "failing"
        return "waiting" if self._session.idle or not self._session.running else "ok"

    # what the session asks for

    async def _do(self, action: Action) -> None:
        match action:
            case Wait(until):
                await asyncio.sleep(max(0, until - self._clock()) / NANOSECONDS)
            case Leave(reason, detail):
                raise Ended(reason, detail)
            case Sign():
                await self._may_sign.wait()
                await self._resources.signing_slots.acquire()
                await self._finish(self._sign(action))
            case Deliver():
                await self._finish(self._deliver(action))
            case Refresh(kind):
                await self._finish(self._refresh(kind))

    async def _finish(self, step: Coroutine[Any, Any, None]) -> None:
        """Run a step to its end even if the caller is cancelled: what it does must be written down."""
        self._under_way = spawn(step, name=f"payment {self._job.request_id}", expected=(Ended,))
        await asyncio.shield(self._under_way)

    async def _sign(self, sign: Sign) -> None:
        step = self._trace.step("sign")
        try:
            await self._signing.sign(sign)
        finally:
            self._resources.signing_slots.release()
            self._trace.signed(step, sign.number, self._session.pending)
        self._alarms.watch_credit(self.credit_left, self._session.schedule.interval)

    async def _deliver(self, deliver: Deliver) -> None:
        with tracing.ended_with(self._trace.step("deliver", attempt=deliver.attempt)) as step:
            await self._delivery.deliver(deliver)
            if self._session.pending is not None:
                step.end("no answer")
            elif self._session.leaving:
                self._trace.over("the orchestrator refused it")
            else:
                self._trace.over()

    async def _refresh(self, kind: RefreshKind) -> None:
        session = self._session
        try:
            if kind is RefreshKind.INFO:
                info = await self._orchestrator.get_info(self._job.addr, ignore_capacity=True)
            else:
                info = await self._orchestrator.refresh_payment(
                    session.info, sender=self._resources.sender, manifest_id=session.manifest_id
                )
        except OrchestratorError as error:
            self._log.warning("refresh failed", kind=kind.name.lower(), error=error.full)
            session.refresh_failed(str(error), self._clock(), refused=isinstance(error, Refused))
        else:
            self._log.info("ticket params refreshed", kind=kind.name.lower())
            session.refreshed(info)

    async def _settle(self, reason: EndReason) -> None:
        if self._under_way is not None:
            await asyncio.wait([self._under_way])
        if not self._journal.opened:
            return
        balance = self._session.balance
        owed = balance.owed(self._clock())
        try:
            await self._delivery.settle()
            self._trace.over("" if self._session.pending is None else "nobody said that it is credited")
            unused = money.whole_wei(max(Fraction(0), balance.credited - owed))
            detail = f"{money.whole_wei(balance.credited)} wei credited, {unused} of them not used"
            await self._journal.close(reason, detail, owed)
        except Ended as error:
            self._log.error("payment session could not be closed in the ledger", error=str(error))
        self._log.info(
            "payments ended",
            reason=str(reason),
            credited_wei=money.whole_wei(balance.credited),
            owed_wei=money.whole_wei(owed),
            payments=balance.accepted,
        )

    # log lines

    def _announce_cadence(self) -> None:
        info = self._session.info
        assert info.price and info.ticket_ev
        cadence = Cadence(
            info.price, info.ticket_ev, self._session.schedule.interval, self._flow.rules.opening
        )
        self._log.info("payment cadence", **cadence.figures())
        if cadence.warning:
            self._log.warning(cadence.warning, ticket_seconds=json_seconds(cadence.ticket_seconds))
