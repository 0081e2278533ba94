"""A job that is paid and relays frames over two trickle channels: what all of its kinds do alike."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeVar

from structlog.typing import FilteringBoundLogger

from gateway import money
from gateway.aio.tasks import TaskGroup, spawn
from gateway.candidates.trust import TrackedJob
from gateway.media.frames import AccessUnit, Frame
from gateway.orchestrator.errors import (
    AlreadySeen,
    NoCapacity,
    OfferChanged,
    OrchestratorError,
    PriceRaised,
    Refused,
)
from gateway.orchestrator.info import OrchestratorInfo
from gateway.paid_job.former_run import FormerRun
from gateway.paid_job.job_payments import MAX_TURN, JobPayments
from gateway.payments.first_payments import FirstPayments
from gateway.payments.payee import Payee
from gateway.payments.payer import Payer
from gateway.payments.resources import PaymentResources
from gateway.payments.saved_jobs import JobDetails
from gateway.payments.signing_rules import JOB_FLOW, PaymentFlow
from gateway.reason import ChooseAgain, Ended, EndReason, NoRoom
from gateway.stream.seam import Candidate, JobHost, JobStatus, OrchestratorRef, PublishRequest
from gateway.trickle.errors import ChannelError
from gateway.trickle.liveness import LivenessTiming
from gateway.trickle.publisher import MAX_IN_FLIGHT
from gateway.trickle.relay import Relay
from signer_client import LivePayment

_T = TypeVar("_T")
LEFT_ALONE = (EndReason.ORCHESTRATOR_LOST, EndReason.CREDIT_EXHAUSTED)
"""Why a job ends that nobody paid for a while."""


@dataclass(frozen=True)
class JobTiming:
    """Time limits after which a job is given up, in seconds."""

    max_turn: float = MAX_TURN
    """Until other streams' starts at the same orchestrator are answered."""
    max_slow: float = 0.25
    """With more than MAX_IN_FLIGHT segments in flight."""
    liveness: LivenessTiming = field(default_factory=LivenessTiming)


class PaidJob(ABC):
    """The base of jobs: the stream's side of them, their first payment, and their end.

    With `former` it goes on with a job that another run of the gateway started, and is held at first.
    `details` are kept for another run.
    """

    resume_reserve: float
    """Seconds of credit that a job keeps over a pause."""

    def __init__(
        self,
        candidate: Candidate,
        request: PublishRequest,
        host: JobHost,
        log: FilteringBoundLogger,
        *,
        trusted: TrackedJob,
        first_payments: FirstPayments,
        timing: JobTiming,
        details: JobDetails | None = None,
        former: FormerRun | None = None,
    ) -> None:
        self.started = False
        self.paid = False
        self._candidate = candidate
        self._url = candidate.url
        self._request = request
        self._host = host
        self._log = log
        self._trusted = trusted
        self._max_slow = timing.max_slow
        self._liveness = timing.liveness
        self._payments = JobPayments(
            first_payments,
            request,
            addr=candidate.addr,
            url=candidate.url,
            log=log,
            details=details,
            max_turn=timing.max_turn,
        )
        self._held = False
        self._starting: asyncio.Task[Any] | None = None
        self._relay: Relay | None = None
        self._closed = False
        if former is not None:
            trusted.goes_on()
            self._payments.goes_on(former.payer)
        self._former = former

    # the stream's side

    @property
    def paused(self) -> bool:
        """Only some apps can be halted."""
        return False

    @property
    def longest_hold(self) -> float:
        left = self._payer.credit_left if self.started and self._payer is not None else None
        return 0.0 if left is None else max(0.0, float(left) - self.resume_reserve)

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

    async def close(self, reason: EndReason, *, leave: bool = False) -> None:
        """End the payments, and free the orchestrator's capacity.

        With `leave`, another run of the gateway is to go on with the job: session and channels stay. They
        stay, too, where another node has taken the job over and uses them, or where that cannot be known.
        """
        if self._relay is not None:
            self._relay.end_input()
        works, payer = self.started or self._former is not None, self._payer
        resumable = works and payer is not None and payer.resumable
        if leave and resumable and payer is not None:
            await asyncio.gather(self._give_back(leave=True), payer.leave())
            self._closed = True
            return
        await self._settle_start()
        try:
            await asyncio.gather(
                self._give_back_own(payer if resumable else None, reason), self._payments.close(reason)
            )
        finally:
            self._trusted.end(self._payer.status().credited if self._payer is not None else Fraction(0))
            self._is_over()
        self._closed = True

    async def _give_back_own(self, payer: Payer | None, reason: EndReason) -> None:
        """Give back what is still this node's; `payer` is of a job that another one could have taken over."""
        own = payer is None or (reason is not EndReason.TAKEN_OVER and await payer.forget_job())
        await self._give_back(leave=not own)

    def _status(self, orchestrator: OrchestratorRef | None) -> JobStatus:
        """What can be told of all jobs alike."""
        relay = self._relay
        return JobStatus(
            orchestrator=orchestrator,
            payments=self._payer.status() if self._payer else None,
            segments=relay.downlink.segments_read if relay else 0,
            gaps=relay.downlink.gaps if relay else 0,
            dropped=relay.uplink.dropped if relay else 0,
            held_bytes=relay.uplink.buffered if relay else 0,
            sessions=int(self._payer is not None and not self._closed),
            problem=relay.problem if relay else None,
        )

    # the start

    @property
    def _payer(self) -> Payer | None:
        return self._payments.payer

    def _not_taken(self, error: OrchestratorError) -> Ended:
        """The end of a job that has paid nothing yet: its offer cannot be had."""
        detail = f"{self._url}: {error}"
        if isinstance(error, OfferChanged):
            raised = isinstance(error, PriceRaised)
            return ChooseAgain(EndReason.PRICE_RAISED if raised else EndReason.ORCHESTRATOR_LOST, detail)
        kind = NoRoom if isinstance(error, NoCapacity) else Ended
        return kind(EndReason.ORCHESTRATOR_LOST, detail)

    async def _first_payment(
        self,
        payments: PaymentResources,
        payee: Payee,
        info: OrchestratorInfo,
        flow: PaymentFlow = JOB_FLOW,
    ) -> tuple[Payer, LivePayment]:
        """Who pays, and the payment for the start. Raises Ended."""
        first = await self._payments.first(
            payments,
            payee,
            info,
            flow=flow,
            serves=self._serves,
            proven=self._candidate.proven,
            chosen=self._paid_through,
        )
        payer = self._payments.payer
        assert payer is not None, "it has given a payment"
        self.paid = not self._payments.handed_out_before
        self._pays(payer.info)
        if self.paid:
            self._trusted.paid()
        self._candidate.paid_without_picture = True
        return payer, first

    async def _start_with(self, start: Coroutine[Any, Any, _T], name: str, failed: str) -> _T | None:
        """The start's answer; None where it needs a payment of its own. Raises Ended.

        It is a task of its own: if the stream ends meanwhile, what it gave is still written down, and closed.
        `failed` says what did not happen where it fails.
        """
        self._starting = spawn(start, name=name, expected=(OrchestratorError, Ended))
        try:
            return await asyncio.shield(self._starting)
        except OrchestratorError as error:
            again = self._payments.handed_out_before
            if again and isinstance(error, AlreadySeen | Refused):
                may_have_started = self._payer is not None and self._payer.start_unanswered
                await self._payments.drop()
                if may_have_started:  # and was credited then
                    return None
            # who had the payment before and said the same then is to blame
            said_before = self._payer is not None and self._payer.refused_starts >= 2
            fair = isinstance(error, NoCapacity) and not said_before
            kind = NoRoom if fair else Ended
            once_more = ", with a payment that it had before" if again else ""
            self._log.info(failed, error=error.full)
            detail = f"{self._url} {failed}{once_more}: {error}"
            raise kind(EndReason.ORCHESTRATOR_LOST, detail) from error

    # the relay

    async def _watch_uplink(self, relay: Relay) -> None:
        while True:
            await relay.wait_too_slow(self._max_slow)
            if await self._is_to_blame():
                detail = f"more than {MAX_IN_FLIGHT} segments were in flight"
                raise Ended(EndReason.ORCHESTRATOR_LOST, f"{self._url} is too slow: {detail}")

    def _show(self, frame: Frame) -> None:
        if isinstance(frame, AccessUnit):
            self._candidate.paid_without_picture = False
            self._trusted.picture()
        self._host.on_output(frame)

    def _lost(self, error: ChannelError | str) -> Ended:
        """The end of a job whose channels are gone."""
        return self._excused(self._loss(error))

    def _excused(self, lost: Ended) -> Ended:
        """Nobody's fault where nothing has come since a former run: it may be over for being left alone."""
        shown = self._relay is not None and self._relay.downlink.segments_read
        if shown or self._former is None or lost.reason not in LEFT_ALONE:
            return lost
        return ChooseAgain(lost.reason, lost.detail)

    def _loss(self, error: ChannelError | str) -> Ended:
        url, left = self._url, self._payer.credit_left if self._payer is not None else None
        if left is None:
            return Ended(EndReason.ORCHESTRATOR_LOST, f"{url}: {error}")
        if left < 0:
            detail = f"{url} closed the stream: the credit that was paid for is used up"
            return Ended(EndReason.CREDIT_EXHAUSTED, detail)
        credit = f"{money.decimal(left, 0)} s of credit left by our estimate"
        return Ended(EndReason.ORCHESTRATOR_LOST, f"{url}: {error}, with {credit}")

    def _run_relay(self, group: TaskGroup, name: str, relay: Relay) -> None:
        """Send, and watch that it is taken."""
        self._relay = relay
        group.create_task(relay.send(), name=f"{name} uplink")
        group.create_task(self._watch_uplink(relay), name=f"{name} uplink watch")

    def _has_started(self) -> None:
        """It takes frames and updates from now on."""
        self.started = True
        if self._held:
            self.hold()

    # what kinds of jobs do differently

    def _serves(self, payee: Payee) -> bool:
        """Whether a former start's first payment, made for this payee, can be this job's."""
        return True

    def _paid_through(self, payee: Payee) -> None:  # noqa: B027 (most have nothing to note)
        """This is who is paid for the job."""

    @abstractmethod
    def _pays(self, info: OrchestratorInfo) -> None:
        """A first payment on this info is about to be handed out."""

    @abstractmethod
    async def _is_to_blame(self) -> bool:
        """Whether silence is the orchestrator's fault."""

    @abstractmethod
    async def _settle_start(self) -> None:
        """The job is over: wait for a start under way, which may have taken room."""

    @abstractmethod
    async def _give_back(self, *, leave: bool) -> None:
        """Close the channels, and the session with them; with `leave` only our ends."""

    @abstractmethod
    def _is_over(self) -> None:
        """All is given back: there is room again."""
