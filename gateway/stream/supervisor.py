"""Keeps a job running for one stream: opens the first one, and replaces one that fails.

Where the stream wants it, a second job stands by on another orchestrator and replaces the first at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NoReturn

from structlog.typing import FilteringBoundLogger

from gateway.aio.tasks import TaskGroup
from gateway.media.frames import Frame
from gateway.payments.status import PaymentStatus
from gateway.reason import ChooseAgain, Ended, EndReason, MoveAsked, ParamsRefused
from gateway.stream.candidate_list import CandidateList
from gateway.stream.closing import ClosingJobs
from gateway.stream.job_slot import JobSlot, SupervisedStream, UnexpectedFailure
from gateway.stream.next_candidate import INPUT_RECENT, NextCandidate, publisher_sends
from gateway.stream.seam import (
    Candidate,
    Job,
    JobHost,
    JobStatus,
    Json,
    OrchestratorRef,
    PublishRequest,
    ResumableJob,
    UpdateRefused,
)
from gateway.stream.sources import JobSources
from gateway.stream.swap import ENDS_THE_STREAM, StartsWithoutPicture, SwapPolicy


@dataclass(frozen=True, slots=True)
class StandbyStatus:
    """The job that stands by, or in `detail` why there is none."""

    state: Literal["none", "starting", "ready"]
    detail: str
    orchestrator: OrchestratorRef | None
    payments: PaymentStatus | None


class Supervisor:
    """One stream's jobs: the active one, those that replace it, and where wanted one that stands by.

    `run` is to be started when there is a key frame to begin with. It raises Ended when the stream cannot
    go on; a job that fails is replaced while there are candidates and `policy` allows it. However `run`
    ended, `close` follows. With `await_room` the first job may wait for room that another stream gives back;
    `make_room` is called where no candidate can be used, and says whether a job that is held gives its up.
    Jobs of a former run of the gateway (`former`) are gone on with at once, before any is chosen.
    """

    def __init__(
        self,
        sources: JobSources,
        request: PublishRequest,
        candidates: Sequence[Candidate],
        stream: SupervisedStream,
        *,
        policy: SwapPolicy,
        log: FilteringBoundLogger,
        await_room: bool = False,
        make_room: Callable[[Sequence[Candidate]], bool] = lambda candidates: False,
        former: Sequence[ResumableJob] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.swaps = 0
        """How often another job became the active one."""
        self._candidates = CandidateList(sources, request, candidates, first_retry=policy.timing.first_retry)
        self._request = request
        self._stream = stream
        self._policy = policy
        self._timing = policy.timing
        self._log = log
        self._former = list(former)
        self._clock = clock
        self._active: JobSlot | None = None
        self._standby: JobSlot | None = None
        self._no_standby = "the first job is not up yet"
        self._next = NextCandidate(
            self._candidates, policy=policy, await_room=await_room, make_room=make_room, clock=clock
        )
        self._standby_starts = StartsWithoutPicture(policy.max_paid_starts)
        self._closing = ClosingJobs(request.request_id)
        self._closed = False

    # the stream's side

    @property
    def candidates(self) -> Sequence[Candidate]:
        """All candidates, each with what became of it."""
        return self._candidates.newest

    @property
    def no_worker_showed_it(self) -> bool:
        """Whether several workers had its pictures and none gave one back."""
        return bool(self._candidates.unshown)

    @property
    def was_live(self) -> bool:
        """Whether a picture has come back for it."""
        return self._next.was_live

    @property
    def live(self) -> bool:
        """Whether a job takes frames for the viewers now."""
        return self._active is not None and self._active.live

    @property
    def paused(self) -> bool:
        """Whether the active job's worker was asked to give no pictures for now."""
        return self._active is not None and self._active.job.paused

    @property
    def held_bytes(self) -> int:
        """Bytes of pictures that are held for a swap."""
        return 0 if self._standby is None else self._standby.held_bytes

    @property
    def longest_hold(self) -> float:
        """For how many seconds the active job could be held now: 0 where it cannot."""
        slot = self._active
        return 0.0 if slot is None or slot.over.done() else slot.job.longest_hold

    def hold(self) -> None:
        """Nobody publishes: no job signs anything until `resume`."""
        for slot in self._slots():
            slot.job.hold()

    def resume(self) -> None:
        for slot in self._slots():
            slot.job.resume()

    def push(self, frame: Frame) -> None:
        """Hand one frame of the publisher to the jobs that are live; dropped where none is."""
        for slot in self._slots():
            slot.push(frame)

    async def update(self, params: Mapping[str, Any]) -> Json:
        """Hand new parameters to the workers. Returns the active one's answer. Raises UpdateRefused."""
        if self._closed:
            return {}
        stream, active, standby = self._stream, self._active, self._standby
        if active is None and set(params) == {"type"}:
            raise UpdateRefused("worker_busy", "no worker is there to take this message now: try again")
        answer = await active.job.update(params) if active is not None else {}
        stream.keep_params(params)
        if standby is not None:
            await standby.follow(params)
        return answer

    def status(self) -> JobStatus:
        """The active job's status, or the last one's, with the sums of all jobs."""
        total = self._closing.status()
        for slot in self._slots():
            total = slot.job.status().after(total)
        return total

    def standby_status(self) -> StandbyStatus | None:
        """The job that stands by; None where the stream does not want one."""
        if not self._request.standby:
            return None
        slot = self._standby
        if slot is None:
            return StandbyStatus("none", self._no_standby, None, None)
        job = slot.job.status()
        if slot.ready:
            return StandbyStatus("ready", "it has pictures to show at once", job.orchestrator, job.payments)
        return StandbyStatus("starting", "no picture has come from it yet", job.orchestrator, job.payments)

    def burn(self) -> Fraction:
        """What the running jobs cost now, in wei per second."""
        running = (slot.job.status().orchestrator for slot in self._slots())
        return sum((one.price for one in running if one is not None and one.price is not None), Fraction(0))

    def keys_in_use(self) -> set[str]:
        """The candidates on which this stream has a job, or one that is being closed."""
        return self._closing.keys() | {slot.candidate.key for slot in self._slots()}

    async def close(self, ended: Ended, *, leave: bool = False) -> None:
        """Give back all that any job took. `ended` says why the stream is over.

        With `leave`, jobs that work are left to another run of the gateway.
        """
        showed_picture = self._active is not None and self._active.live
        self._candidates.stream_ended(ended, showed_picture=showed_picture)
        for slot in self._slots():
            failed = slot.over.done() and not slot.over.cancelled()
            self._closing.add(slot, ended.reason, leave=leave and not failed)
        self._active = self._standby = None
        self._no_standby = "the stream ended"
        self._closed = True
        await self._closing.wait()
        del self._stream  # which holds this supervisor

    def move(self, why: str) -> bool:
        """Have the active job end and another take its place. False where nobody else can take the stream."""
        slot = self._active
        if slot is None or slot.over.done():
            return False
        ready = self._standby is not None and self._standby.ready
        if not ready and self._another(slot.candidate) is None:
            return False
        slot.leave(MoveAsked(EndReason.TERMINATED, why))
        return True

    def _slots(self) -> list[JobSlot]:
        """Those whose job runs, the active one last."""
        return [slot for slot in (self._standby, self._active) if slot is not None]

    # the active job

    async def run(self) -> NoReturn:
        """Keep a job active, and another standing by. Raises Ended."""
        name = f"job {self._request.request_id}"
        async with TaskGroup() as group:
            group.create_task(self._keep_active(group), name=f"{name} active")
            if self._request.standby:
                group.create_task(self._keep_standby(group), name=f"{name} standby")
        raise AssertionError("jobs are replaced until the stream cannot go on")

    async def _keep_active(self, group: TaskGroup) -> NoReturn:
        failures: list[Ended] = []
        while True:
            slot = self._go_on(group, active=True)
            if slot is None:
                await publisher_sends(self._stream, self._timing)
                slot = self._promote_standby(failures)
            if slot is None:
                candidate = await self._next.choose(self._stream, failures)
                self._candidates.choose(candidate)
                slot = self._active = self._open(candidate, group, active=True)
            failure, was_live = await self._end_of(slot)
            if was_live:
                failures.clear()
            failures.append(failure)

    def _promote_standby(self, failures: Sequence[Ended]) -> JobSlot | None:
        """Make the job that stands by the active one, if there is one: it may still be starting."""
        slot = self._standby
        if slot is None or slot.over.done():
            return None
        self._next.swap(failures[-1])
        self._active, self._standby = slot, None
        self._candidates.choose(slot.candidate)
        self._log.info("standby takes over", url=slot.candidate.url, ready=slot.ready)
        slot.promote()
        return slot

    async def _end_of(self, slot: JobSlot) -> tuple[Ended, bool]:
        """Why the active job failed, and whether it had been live. Raises what ends the stream."""
        failure = await slot.over
        was_live = slot.live
        self._next.job_over(slot.candidate, failure, live=was_live, paid=slot.job.paid)
        if _ends_the_stream(failure) and not self._next.waits_for_signer(failure):
            raise failure
        self._active = None
        self._give_up(slot, failure)
        if not was_live or isinstance(failure, MoveAsked):
            self._candidates.retry_later(slot.candidate, failure, self._clock())
        self._stream.on_job_failed(failure, was_live=was_live)
        return failure, was_live

    # the job that stands by

    async def _keep_standby(self, group: TaskGroup) -> NoReturn:
        pause = self._timing.first_retry
        while True:
            slot = self._go_on(group, active=False)
            if slot is None:
                await publisher_sends(self._stream, self._timing)
                candidate = self._other_candidate()
                if candidate is None:
                    await asyncio.sleep(self._timing.standby_poll)
                    continue
                slot = self._standby = self._open(candidate, group, active=False)
            await slot.stand_by()
            if slot is not self._standby:
                pause = self._timing.first_retry  # it was promoted
                continue
            self._standby = None
            failure = slot.over.result()
            self._no_standby = failure.detail
            if slot.live:
                self._stream.on_standby("none", failure.detail)
            self._standby_starts.count(self._clock(), failure, live=slot.live, paid=slot.job.paid)
            self._give_up(slot, failure)
            if failure.reason is EndReason.SIGNER_REFUSED:
                pause = self._timing.max_standby_pause  # who refuses this customer does so for a while
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._timing.max_standby_pause)

    def _other_candidate(self) -> Candidate | None:
        """Where a job could stand by for the active one; None while that is not live."""
        if self._active is None or not self._active.live:
            return None
        candidate = self._another(self._active.candidate)
        refusal = self._standby_starts.refusal
        if candidate is None:
            self._no_standby = "no other orchestrator can take the stream now"
        elif refusal and candidate.first_payment:
            self._no_standby = refusal
            return None
        return candidate

    # both

    def _another(self, than: Candidate) -> Candidate | None:
        return self._candidates.other_than(than, self._stream.params, self._clock())

    def _go_on(self, group: TaskGroup, *, active: bool) -> JobSlot | None:
        """Go on with the next job of a former run; None where there is none."""
        if not self._former:
            return None
        former = self._former.pop(0)
        slot = self._open(former.candidate, group, active=active, opened=former.open)
        if active:
            self._active = slot
            self._candidates.choose(former.candidate)
        else:
            self._standby = slot
        slot.job.hold()
        return slot

    def _open(
        self,
        candidate: Candidate,
        group: TaskGroup,
        *,
        active: bool,
        opened: Callable[[JobHost, FilteringBoundLogger], Job] | None = None,
    ) -> JobSlot:
        slot = JobSlot(
            candidate,
            self._request,
            self._stream,
            active=active,
            policy=self._policy,
            on_active=self._on_active,
            can_be_replaced=lambda: self._another(candidate) is not None,
            clock=self._clock,
            log=self._log,
        )
        if opened is None:
            slot.job = candidate.source.open(candidate, self._request, slot, self._log)
        else:
            slot.job = opened(slot, self._log)
        slot.over = group.create_task(slot.run(), name=f"job {self._request.request_id}")
        return slot

    def _on_active(self, made: Sequence[Frame]) -> None:
        self._candidates.job_is_live()
        self.swaps += self._next.was_live
        self._next.was_live = True
        self._stream.on_live(made)

    def _give_up(self, slot: JobSlot, failure: Ended) -> None:
        """Close a job that failed, and suspend its candidate where that is to blame."""
        candidate = slot.candidate
        self._log.warning(
            "job failed",
            url=candidate.url,
            reason=str(failure.reason),
            detail=failure.detail,
            live=slot.live,
            standby=not slot.active,
        )
        self._closing.add(slot, failure.reason)
        if isinstance(failure, ChooseAgain | MoveAsked):
            pass
        elif isinstance(failure, ParamsRefused):
            self._candidates.refused_params(candidate, failure)
        elif failure.reason is EndReason.PRICE_RAISED:
            self._candidates.never_retry(candidate, failure)
        elif _ends_the_stream(failure):
            return
        elif not slot.job.started or self._stream.input_age() < INPUT_RECENT:
            candidate.source.suspend(candidate, self._request, failure)
            if slot.job.started and not slot.live:
                self._candidates.showed_nothing(candidate, failure)
        self._candidates.reject(candidate, failure)


def _ends_the_stream(failure: Ended) -> bool:
    return failure.reason in ENDS_THE_STREAM and not isinstance(failure, UnexpectedFailure | MoveAsked)
