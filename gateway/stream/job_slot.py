"""One job as its stream holds it: active, with its frames going to the viewers, or standing by for that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from structlog.typing import FilteringBoundLogger

from gateway.aio.tasks import TaskGroup
from gateway.media.frames import AccessUnit, Frame
from gateway.media.gop import GopBuffer
from gateway.reason import Ended, EndReason, NoRoom
from gateway.stream.seam import Candidate, Job, Json, PublisherControl, PublishRequest, UpdateRefused
from gateway.stream.swap import DripWatch, OutputWatch, SwapPolicy
from gateway.telemetry.tracing import NO_SPAN, current

CHECKS = 10
"""How often, at least, output is checked within the time that it may stay away."""


class UnexpectedFailure(Ended):
    """A job ended by an exception that nobody expected: it is replaced like any other that failed."""


class SupervisedStream(Protocol):
    """The stream, as its supervisor and its job slots see it."""

    @property
    def ingest(self) -> PublisherControl:
        """The publisher."""

    @property
    def held(self) -> GopBuffer:
        """The publisher's frames since its last key frame: what a job begins with."""

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters for the worker, updates among them, the newest last."""

    @property
    def last_update(self) -> Mapping[str, Any] | None:
        """The newest update as it was; None before the first."""

    def keep_params(self, params: Mapping[str, Any]) -> None:
        """Make these the newest of the parameters."""

    def report_error(self, detail: str) -> None:
        """The active job's worker does not do what was asked of it."""

    def on_output(self, frame: Frame) -> None:
        """A frame came back from the active job."""

    def on_live(self, made: Sequence[Frame]) -> None:
        """Another job is the active one from now on; `made` are its frames since its last key frame."""

    def on_job_failed(self, failure: Ended, *, was_live: bool) -> None:
        """There is no active job for the moment."""

    def on_standby(self, state: str, detail: str) -> None:
        """The job that stands by has its first picture (`ready`), or is over (`none`)."""

    def on_worker_event(self, event: Json) -> None:
        """The active job's worker said something."""

    def input_age(self) -> float:
        """Seconds since the publisher's last frame."""


class JobSlot:
    """A job and the way of its frames, and the `JobHost` of that job.

    While it stands by, its frames are held from the last key frame on, and it may not slow the publisher
    down. `run` is its whole life and returns why it failed; `promote` makes it the active one. `on_active` is
    called when viewers get its frames from then on, with those that it has held.
    """

    def __init__(
        self,
        candidate: Candidate,
        request: PublishRequest,
        stream: SupervisedStream,
        *,
        active: bool,
        policy: SwapPolicy,
        on_active: Callable[[Sequence[Frame]], None],
        can_be_replaced: Callable[[], bool],
        clock: Callable[[], float],
        log: FilteringBoundLogger,
    ) -> None:
        self.candidate = candidate
        self.active = active
        self.job: Job
        self.over: asyncio.Task[Ended]
        self.live = False
        """Whether its first picture is back."""
        self._name = f"job {request.request_id}"
        self._stream = stream
        self._policy = policy
        self._on_active = on_active
        self.can_be_replaced = can_be_replaced
        self._clock = clock
        self._log = log
        self._watch: OutputWatch | None = None
        self._drip = DripWatch(policy.output_timeout)
        self._made = GopBuffer()
        self._promoted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._update_refusal = ""
        self._told_to_leave: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._trace = self._step = NO_SPAN

    # the supervisor's side

    @property
    def ready(self) -> bool:
        """Whether it stands by with pictures to show at once."""
        return not self.active and len(self._made) > 0

    @property
    def held_bytes(self) -> int:
        return self._made.size

    async def run(self) -> Ended:
        """Bring the job up and relay. Returns why it failed."""
        ended = await self._run()
        for span in (self._step, self._trace):
            span.end(f"{ended.reason}: {ended.detail}")  # they are over where its first picture was back
        return ended

    async def _run(self) -> Ended:
        one = self.candidate
        self._trace = current().child("job", url=one.url, kind=one.kind or "job", standby=not self.active)
        self._step = self._trace.child("job start")
        try:
            async with TaskGroup() as group:
                group.create_task(_run(self.job), name=f"{self._name} run")
                group.create_task(self._watch_output(), name=f"{self._name} output watch")
                group.create_task(self._until_told(), name=f"{self._name} until told")
        except Ended as ended:
            return ended.without_frames()
        except (Exception, GeneratorExit) as error:
            self._log.exception("job failed unexpectedly")
            return UnexpectedFailure(EndReason.INTERNAL_ERROR, f"an error in the gateway: {error!r}")
        raise AssertionError("a job ends with a reason")

    def leave(self, why: Ended) -> None:
        """End the job for this reason; further calls change nothing."""
        if not self._told_to_leave.done():
            self._told_to_leave.set_result(why)

    async def stand_by(self) -> None:
        """Wait until it is promoted or over."""
        either: set[asyncio.Future[Any]] = {self._promoted, self.over}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)

    def promote(self) -> None:
        """Make it the active one: what it has made goes to the viewers at once, and all that follows."""
        self.active = True
        self._promoted.set_result(None)
        if self.live:
            self._on_active(self._made.frames())
        self._made.clear()

    def push(self, frame: Frame) -> None:
        if self.job.started:
            self.job.push(frame)
            self._drip.got += isinstance(frame, AccessUnit)

    async def follow(self, params: Mapping[str, Any]) -> None:
        """Take the parameters that the active job took; where it refuses, it is of no use any more."""
        try:
            if not self.over.done() and self.job.started:
                await self.job.update(params)
        except UpdateRefused as error:
            self._update_refusal = str(error)

    # the job's side

    @property
    def params(self) -> Mapping[str, Any]:
        return self._stream.params

    @property
    def last_update(self) -> Mapping[str, Any] | None:
        return self._stream.last_update

    def keep_params(self, params: Mapping[str, Any]) -> None:
        self._stream.keep_params(params)

    def report_error(self, detail: str) -> None:
        if self.active:
            self._stream.report_error(detail)

    def on_worker_event(self, event: Json) -> None:
        if self.active:
            self._stream.on_worker_event(event)

    def on_started(self) -> GopBuffer:
        self._watch = OutputWatch(self._policy.output_timeout, self._clock())
        self._step.end()
        self._step = self._trace.child("first picture")
        return self._stream.held

    def on_output(self, frame: Frame) -> None:
        if isinstance(frame, AccessUnit):
            self._drip.shown += 1
            if self._watch is not None:
                self._watch.came(self._clock())
            if not self.live:
                self.live = True
                self._step.end()
                self._trace.end()
                if self.active:
                    self._on_active(())
                else:
                    self._stream.on_standby("ready", "")
        if not self.active:
            self._made.push(frame)
        elif self.live:
            self._stream.on_output(frame)

    @property
    def audio_agreed(self) -> bool:
        return self._stream.ingest.audio_agreed

    @property
    def size(self) -> tuple[int, int] | None:
        return self._stream.ingest.size

    def request_key_frame(self) -> None:
        self._stream.ingest.request_key_frame()

    def limit_bitrate(self, bits_per_second: int | None) -> None:
        if self.active:
            self._stream.ingest.limit_bitrate(bits_per_second)

    async def _until_told(self) -> NoReturn:
        raise await self._told_to_leave

    async def _watch_output(self) -> NoReturn:
        while True:
            await asyncio.sleep(min(self._policy.timing.output_check, self._policy.output_timeout / CHECKS))
            if self._update_refusal and not self.active:
                why = f"it did not take new parameters: {self._update_refusal}"
                raise NoRoom(EndReason.ORCHESTRATOR_LOST, why)
            if self._watch is None:
                continue
            if self.job.paused:
                self._watch.came(self._clock())
                self._drip.pause()
            silence = self._watch.overdue(self._clock(), self._stream.input_age())
            if silence:
                problem = self.job.status().problem
                why = "" if problem is None else f": {problem[0]}"
                raise Ended(
                    EndReason.ORCHESTRATOR_LOST,
                    f"no picture came back for {silence:.0f} s while the publisher was sending{why}",
                )
            drip = self._drip.too_few(self._clock())
            if drip:
                raise Ended(EndReason.ORCHESTRATOR_LOST, drip)


async def _run(job: Job) -> NoReturn:
    try:
        await job.run()
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
        # a TaskGroup would take it for the end of a task that somebody cancelled
        raise RuntimeError("the job cancelled itself") from None
    raise Ended(EndReason.ORCHESTRATOR_LOST, "the job ended by itself")


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
