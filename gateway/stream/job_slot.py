"""One job as its stream holds it: at work for the viewers, or standing by for the one that is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from structlog.typing import FilteringBoundLogger

from gateway.aio.tasks import TaskGroup
from gateway.media.frames import AccessUnit, Frame
from gateway.media.gop import GopBuffer
from gateway.reason import Ended, EndReason, NoRoom
from gateway.stream.seam import Candidate, Ingest, Job, PublishRequest, UpdateRefused
from gateway.stream.swap import OutputWatch

WATCH_POLL = 1.0
WATCHES = 10
"""How often, at least, a job's silence is looked at within the time that it may last."""


class UnexpectedFailure(Ended):
    """A job ended by an exception that nobody expected: it is replaced like any other that failed."""


class Host(Protocol):
    """The stream, as its jobs see it."""

    @property
    def ingest(self) -> Ingest:
        """The publisher."""

    @property
    def held(self) -> GopBuffer:
        """The publisher's frames since its last key frame: what a job begins with."""

    def on_output(self, frame: Frame) -> None:
        """A frame came back from the job at work."""

    def on_live(self, made: Sequence[Frame]) -> None:
        """Another job's frames come from now on; `made` are those it has made since its last key frame."""

    def on_job_failed(self, failure: Ended, *, was_live: bool) -> None:
        """There is no job for the moment."""

    def input_age(self) -> float:
        """Seconds since the publisher's last frame."""


class JobSlot:
    """A job's relay and the way of its frames. While it stands by they are held from the last key frame on.

    `run` is its whole life and gives why it failed; `take_over` puts it to work. `on_air` is called when its
    frames are what viewers see, with those it has held. The lane is the publisher that its relay knows: one
    that stands by must not slow it down.
    """

    def __init__(
        self,
        candidate: Candidate,
        request: PublishRequest,
        host: Host,
        *,
        standby: bool,
        output_timeout: float,
        on_air: Callable[[Sequence[Frame]], None],
        clock: Callable[[], float],
        log: FilteringBoundLogger,
    ) -> None:
        self.candidate = candidate
        self.standby = standby
        self.relay: Job
        self.over: asyncio.Task[Ended]
        self._name = f"job {request.request_id}"
        self._host = host
        self._output_timeout = output_timeout
        self._on_air = on_air
        self._clock = clock
        self._log = log
        self._watch: OutputWatch | None = None
        self._made = GopBuffer()
        self._put_to_work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._out_of_step = ""

    # the supervisor's side

    @property
    def live(self) -> bool:
        return self.relay.live

    @property
    def ready(self) -> bool:
        """Whether it stands by with pictures to show at once."""
        return self.standby and len(self._made) > 0

    @property
    def held_bytes(self) -> int:
        return self._made.size

    async def run(self) -> Ended:
        """Bring the job up and have it work: why it failed."""
        try:
            async with TaskGroup() as group:
                group.create_task(_run(self.relay), name=f"{self._name} run")
                group.create_task(self._watch_output(), name=f"{self._name} output watch")
        except Ended as ended:
            return ended.without_frames()
        except (Exception, GeneratorExit) as error:
            self._log.exception("job failed by a mistake")
            return UnexpectedFailure(EndReason.INTERNAL_ERROR, f"a mistake in the gateway: {error!r}")
        raise AssertionError("a job ends with a reason")

    async def stand_by(self) -> None:
        """Wait until it takes over or is over."""
        either: set[asyncio.Future[Any]] = {self._put_to_work, self.over}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)

    def take_over(self) -> None:
        """Stand by no longer: what it has made goes to the viewers at once, and all that follows."""
        self.standby = False
        self._put_to_work.set_result(None)
        if self._watch is not None:
            self._on_air(self._made.frames())
        self._made.clear()

    def push(self, frame: Frame) -> None:
        if self.relay.live:
            self.relay.push(frame)

    async def follow(self, params: Mapping[str, Any]) -> None:
        """Take the parameters that the job at work took; one that does not is of no use any more."""
        try:
            if self.relay.live:
                await self.relay.update(params)
        except UpdateRefused as error:
            self._out_of_step = str(error)

    # the relay's side

    def on_output(self, frame: Frame) -> None:
        if self._watch is not None and isinstance(frame, AccessUnit):
            self._watch.came(self._clock())
        if self.standby:
            self._made.push(frame)
        else:
            self._host.on_output(frame)

    def on_live(self) -> GopBuffer:
        self._watch = OutputWatch(self._output_timeout, self._clock())
        if not self.standby:
            self._on_air(())
        return self._host.held

    @property
    def has_audio(self) -> bool:
        return self._host.ingest.has_audio

    @property
    def size(self) -> tuple[int, int] | None:
        return self._host.ingest.size

    def request_key_frame(self) -> None:
        self._host.ingest.request_key_frame()

    def limit_bitrate(self, bits_per_second: int | None) -> None:
        if not self.standby:
            self._host.ingest.limit_bitrate(bits_per_second)

    async def _watch_output(self) -> NoReturn:
        while True:
            await asyncio.sleep(min(WATCH_POLL, self._output_timeout / WATCHES))
            if self._out_of_step and self.standby:
                why = f"it did not take new parameters: {self._out_of_step}"
                raise NoRoom(EndReason.ORCHESTRATOR_LOST, why)
            if self._watch is None:
                continue
            if self.relay.paused:
                self._watch.came(self._clock())
            silence = self._watch.overdue(self._clock(), self._host.input_age())
            if silence:
                raise Ended(
                    EndReason.ORCHESTRATOR_LOST,
                    f"no picture came back for {silence:.0f} s while the publisher was sending",
                )


async def _run(relay: Job) -> NoReturn:
    try:
        await relay.run()
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
        # a TaskGroup would take it for the end of a task that somebody cancelled
        raise RuntimeError("the job cancelled itself") from None
    raise Ended(EndReason.ORCHESTRATOR_LOST, "the job ended by itself")


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
