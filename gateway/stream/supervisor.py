"""Keeps a job at work for one stream: opens the first, and puts another in the place of one that fails.

Where the stream wants it, a second job stands by on another orchestrator and is the one that takes over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NoReturn

from structlog.typing import FilteringBoundLogger

from gateway.aio.tasks import TaskGroup, spawn
from gateway.media.frames import Frame
from gateway.reason import Ended, EndReason, NoRoom
from gateway.stream.job_slot import Host, JobSlot, UnexpectedFailure
from gateway.stream.seam import Candidate, Job, JobSource, JobStatus, Json, PublishRequest
from gateway.stream.swap import ENDS_THE_STREAM, FIRST_RETRY, PATIENCE, Attempts, SwapBudget, SwapPolicy

INPUT_RECENT = 1.0
"""Seconds since the last frame within which a publisher counts as sending."""
POLL = 0.1
STANDBY_POLL = 1.0
"""Seconds between looks for somebody who could stand by."""
LONGEST_STANDBY_PAUSE = 60.0
"""Seconds, at most, before another stands by in the place of one that failed: each costs a first payment."""


class Supervisor:
    """One stream's jobs, one after the other, and where it wants that one that stands by.

    `run` is to be started when there is a key frame to begin with. It raises Ended when the stream cannot
    go on; a job's own failure is met with another job while anybody is left and `policy` allows it.
    Whatever `run` ended with, `close` follows.
    """

    def __init__(
        self,
        relays: JobSource[Any],
        request: PublishRequest,
        candidates: Sequence[Candidate],
        host: Host,
        *,
        policy: SwapPolicy,
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.candidates = candidates
        self.swaps = 0
        """How often another job took over."""
        self._relays = relays
        self._request = request
        self._host = host
        self._policy = policy
        self._log = log
        self._clock = clock
        self._at_work: JobSlot | None = None
        self._standby: JobSlot | None = None
        self._no_standby = "the job at work is not up yet"
        self._budget = SwapBudget(policy.max_swaps)
        self._attempts = Attempts()
        self._was_live = False
        self._retired: dict[Job, asyncio.Task[None]] = {}
        self._former = JobStatus()

    # the stream's side

    @property
    def live(self) -> bool:
        """Whether a job takes frames for the viewers now."""
        return self._at_work is not None and self._at_work.live

    @property
    def paused(self) -> bool:
        """Whether the job's worker was asked to give no pictures for now."""
        return self._at_work is not None and self._at_work.relay.paused

    @property
    def held_bytes(self) -> int:
        """Bytes of pictures that are held for a swap."""
        return 0 if self._standby is None else self._standby.held_bytes

    def push(self, frame: Frame) -> None:
        """Hand one frame of the publisher to the jobs that are live; dropped where none is."""
        for lane in self._lanes():
            lane.push(frame)

    async def update(self, params: Mapping[str, Any]) -> Json:
        """Hand new parameters to the worker, and give its answer, if it has one. Raises UpdateRefused."""
        lane = self._at_work
        answer = await lane.relay.update(params) if lane is not None and lane.live else {}
        if self._standby is not None:
            await self._standby.follow(params)
        return answer

    def status(self) -> JobStatus:
        """The running job's account of itself, or the last one's; sums are over all jobs."""
        total = self._former
        for relay in (*self._retired, *(lane.relay for lane in self._lanes())):
            total = relay.status().after(total)
        return total

    def standby_status(self) -> Json | None:
        """The account of the job that stands by; None where the stream does not want one."""
        if not self._request.standby:
            return None
        lane = self._standby
        if lane is None:
            return {"state": "none", "detail": self._no_standby, "orchestrator": None, "payments": None}
        status = lane.relay.status()
        return {
            "state": "ready" if lane.ready else "starting",
            "detail": "",
            "orchestrator": status.orchestrator,
            "payments": status.payments,
        }

    def burn(self) -> Fraction:
        """What the running jobs cost now, in wei per second."""
        statuses = (lane.relay.status().orchestrator or {} for lane in self._lanes())
        return sum((Fraction(status.get("price_wei_per_second") or 0) for status in statuses), Fraction(0))

    async def close(self, reason: EndReason) -> None:
        """Give back all that any job took."""
        for lane in self._lanes():
            self._retire(lane, reason)
        self._at_work = self._standby = None
        self._no_standby = "the stream ended"
        await asyncio.gather(*self._retired.values(), return_exceptions=True)
        del self._host  # which holds this supervisor

    def _lanes(self) -> list[JobSlot]:
        """Those that run, the one at work last."""
        return [lane for lane in (self._standby, self._at_work) if lane is not None]

    # the job at work

    async def run(self) -> NoReturn:
        """Keep a job at work, and another standing by. Raises Ended."""
        name = f"job {self._request.request_id}"
        async with TaskGroup() as group:
            group.create_task(self._keep_at_work(group), name=f"{name} at work")
            if self._request.standby:
                group.create_task(self._keep_standing_by(group), name=f"{name} standby")
        raise AssertionError("jobs are kept at work until the stream cannot go on")

    async def _keep_at_work(self, group: TaskGroup) -> NoReturn:
        failures: list[Ended] = []
        while True:
            await self._publisher_sends()
            lane = self._put_to_work(failures)
            if lane is None:
                lane = self._at_work = self._open(await self._choose(failures), group, standby=False)
            failure, was_live = await self._end_of(lane)
            if was_live:
                failures.clear()
            failures.append(failure)

    def _put_to_work(self, failures: Sequence[Ended]) -> JobSlot | None:
        """Have the job that stands by take over, if there is one: it may still be starting."""
        lane = self._standby
        if lane is None or lane.over.done():
            return None
        self._budget.spend(failures[-1], self._clock())
        self._at_work, self._standby = lane, None
        for candidate in self.candidates:
            if candidate.url == lane.candidate.url:
                candidate.choose()
        self._log.info("standby takes over", url=lane.candidate.url, ready=lane.ready)
        lane.take_over()
        return lane

    async def _choose(self, failures: Sequence[Ended]) -> Candidate:
        """The best candidate there is; after a live job's end one is waited for. Raises Ended for nobody.

        `failures` are those since a job was live, first the one that ended it.
        """
        patient_until = self._clock() + (PATIENCE if self._was_live else 0)
        while True:
            await self._publisher_sends()
            now = self._clock()
            candidate = self._best(now, again=now < patient_until)
            if candidate is not None:
                if self._was_live:
                    self._budget.spend(failures[-1], now)
                return candidate
            if now >= patient_until:
                raise self._nobody(failures)
            await asyncio.sleep(POLL)

    def _best(self, now: float, *, again: bool) -> Candidate | None:
        self.candidates = list(self._relays.candidates(self._request))
        for candidate in self.candidates:
            if candidate.usable:
                why_not = self._attempts.why_not(candidate.url, now, again=again and self._was_live)
                if not why_not:
                    candidate.choose()
                    return candidate
                candidate.passed_over(why_not)
        return None

    def _nobody(self, failures: Sequence[Ended]) -> Ended:
        if self._was_live or len(failures) == 1:
            return failures[0]
        said = "; ".join(failure.detail for failure in failures)
        return Ended(EndReason.NO_ORCHESTRATOR, said or "no orchestrator can take this stream any more")

    async def _publisher_sends(self) -> None:
        """Wait while the publisher is silent: a job for nobody would be paid for nothing."""
        while True:
            if self._host.input_age() < INPUT_RECENT:
                return
            await asyncio.sleep(POLL)

    async def _end_of(self, lane: JobSlot) -> tuple[Ended, bool]:
        """Why the job at work failed, and whether it had been live. Raises what ends the stream."""
        failure = await lane.over
        if failure.reason in ENDS_THE_STREAM and not isinstance(failure, UnexpectedFailure):
            raise failure
        was_live = lane.live
        self._at_work = None
        self._give_up(lane, failure)
        if not was_live:
            self._attempts.failed(lane.candidate.url, failure.detail, self._clock())
            if self._was_live and isinstance(failure, NoRoom):
                self._budget.refund()
        self._host.on_job_failed(failure, was_live=was_live)
        return failure, was_live

    # the job that stands by

    async def _keep_standing_by(self, group: TaskGroup) -> NoReturn:
        pause = FIRST_RETRY
        while True:
            await self._publisher_sends()
            candidate = self._other() if self.live else None
            if candidate is None:
                await asyncio.sleep(STANDBY_POLL)
                continue
            lane = self._standby = self._open(candidate, group, standby=True)
            await lane.stand_by()
            if lane is not self._standby:
                pause = FIRST_RETRY  # it took over
                continue
            self._standby = None
            failure = lane.over.result()
            self._no_standby = failure.detail
            self._give_up(lane, failure)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_STANDBY_PAUSE)

    def _other(self) -> Candidate | None:
        """The best candidate but for the one at work."""
        now = self._clock()
        candidates: Sequence[Candidate] = self._relays.candidates(self._request)
        for candidate in candidates:
            elsewhere = self._at_work is not None and candidate.url != self._at_work.candidate.url
            if candidate.usable and elsewhere and not self._attempts.why_not(candidate.url, now, again=False):
                return candidate
        self._no_standby = "no other orchestrator can take the stream now"
        return None

    # both

    def _open(self, candidate: Candidate, group: TaskGroup, *, standby: bool) -> JobSlot:
        lane = JobSlot(
            candidate,
            self._request,
            self._host,
            standby=standby,
            output_timeout=self._policy.output_timeout,
            on_air=self._on_air,
            clock=self._clock,
            log=self._log,
        )
        lane.relay = self._relays.open(
            candidate, self._request, lane.on_output, lane.on_live, lane, self._log
        )
        lane.over = group.create_task(lane.run(), name=f"job {self._request.request_id}")
        return lane

    def _on_air(self, made: Sequence[Frame]) -> None:
        self._attempts.succeeded()
        self.swaps += self._was_live
        self._was_live = True
        self._host.on_live(made)

    def _give_up(self, lane: JobSlot, failure: Ended) -> None:
        """Let go of a job that failed, and pass its candidate over for a while where that is to blame."""
        candidate = lane.candidate
        self._log.warning(
            "job failed",
            url=candidate.url,
            reason=str(failure.reason),
            detail=failure.detail,
            live=lane.live,
            standby=lane.standby,
        )
        self._retire(lane, failure.reason)
        if failure.reason is EndReason.PRICE_RAISED:
            self._attempts.left(candidate.url, failure.detail)
        elif failure.reason in ENDS_THE_STREAM and not isinstance(failure, UnexpectedFailure):
            return
        elif not lane.live or self._host.input_age() < INPUT_RECENT:
            self._relays.set_aside(candidate, failure)
        candidate.passed_over(failure.detail)

    def _retire(self, lane: JobSlot, reason: EndReason) -> None:
        """Have a job give back what it took, without waiting for it."""
        closing = spawn(self._close(lane, reason), name=f"job-close {self._request.request_id}")
        self._retired[lane.relay] = closing

    async def _close(self, lane: JobSlot, reason: EndReason) -> None:
        relay = lane.relay
        try:
            await relay.close(reason)
        finally:
            del self._retired[relay]
            self._former = relay.status().after(self._former)
            del lane.relay  # which holds the lane
