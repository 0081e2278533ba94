"""One stream, from its publisher's offer to the log line that says why it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import structlog

from gateway import money
from gateway.aio.tasks import TaskGroup
from gateway.media.fanout import Fanout, FrameTap
from gateway.media.frames import AccessUnit, Frame
from gateway.media.gop import GopBuffer
from gateway.reason import Ended, EndReason, MoveAsked
from gateway.stream.params import WorkerParams
from gateway.stream.publisher_session import PublisherSession
from gateway.stream.publishers import Publishers
from gateway.stream.quotas import Reservation
from gateway.stream.seam import (
    Candidate,
    FormerStream,
    JobStatus,
    Json,
    PublishRequest,
    UpdateRefused,
)
from gateway.stream.sources import JobSources
from gateway.stream.stream_events import WARN_AT, StreamEvents
from gateway.stream.supervisor import Supervisor
from gateway.stream.swap import SwapPolicy
from gateway.telemetry import tracing
from gateway.telemetry.events import EventHub

TAKEOVER_AFTER = 2.0
"""Seconds without media after which another publisher may take the name over."""
OUTPUT_SILENCE = 3.0
"""Seconds without a picture back, while the publisher sends, after which status shows an error."""


class State(StrEnum):
    STARTING = "starting"
    WAITING_FOR_KEY_FRAME = "waiting_for_key_frame"
    LIVE = "live"
    SWAPPING = "swapping"
    WAITING_FOR_PUBLISHER = "waiting_for_publisher"
    ENDED = "ended"


class CannotMove(Exception):
    """A stream cannot be moved to another orchestrator now, as a sentence."""


class Stream:
    """Connects a publisher, the jobs that transform its pictures, and the output for viewers.

    Frames go from the publisher through `on_frame` to the job, and from the job to `output`. `run` is the
    whole life; `end` asks for its end from outside. The supervisor decides which job it is. A `former` stream
    is one of another run of the gateway: its paid jobs wait for their publisher.
    """

    def __init__(
        self,
        request: PublishRequest,
        sources: JobSources,
        candidates: Sequence[Candidate],
        output: Fanout,
        *,
        ingest_timeout: float,
        swaps: SwapPolicy,
        reservation: Reservation,
        resume_timeout: Callable[[], float] = lambda: 0.0,
        make_room: Callable[[Sequence[Candidate]], bool] = lambda candidates: False,
        await_room: bool = False,
        former: FormerStream | None = None,
        events: EventHub | None = None,
    ) -> None:
        self.request = request
        self.events = StreamEvents(events or EventHub(), request)
        self.output = output
        self.state = State.STARTING
        self.error: tuple[str, int] | None = None
        """The last error, and when it was: milliseconds of the wall clock."""
        self.ended: tuple[Ended, datetime] | None = None
        self.started_at = datetime.now(UTC)
        self.first_frame_after: float | None = None
        """Seconds from the publisher's request to the first frame back."""
        self.log = structlog.get_logger("stream").bind(stream=request.name, request_id=request.request_id)
        self.supervisor = Supervisor(
            sources,
            request,
            candidates,
            self,
            policy=swaps,
            log=self.log,
            await_room=await_room,
            make_room=make_room,
            former=() if former is None else former.jobs,
        )
        self.publishers = Publishers(
            self,
            request.request_id,
            ingest_timeout=ingest_timeout,
            resume_timeout=resume_timeout,
            reservation=reservation,
            log=self.log,
        )
        self._trace = tracing.current()
        """Its publish, until the first picture is back."""
        self._params = WorkerParams.of(request.params)
        self._measured: tuple[WorkerParams, Mapping[str, Any], WorkerParams] | None = None
        """An update that is on its way to the worker: from what, the update, to what."""
        self._started = time.monotonic()
        self._stopped: float | None = None
        self._last_output = self._started
        self._last_input = self._started
        self.held = GopBuffer()
        """The publisher's frames since its last key frame."""
        self.source_taps: list[FrameTap] = []
        """These take the publisher's frames too, from now on; `held` are those before."""
        self.may_output = False
        """Whether its publisher may have it sent on to other servers."""
        self.outputs_refused = False
        """Whether the auth webhook said that nobody may, whatever a token says."""
        self._told_to_end: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._leaves_jobs = False
        self.left_behind = False
        """Whether its paid jobs were left for another run of the gateway."""
        self.finished = asyncio.Event()
        self._left_for = ""
        """Why the last active job is over."""
        self._is_former = former is not None
        if former is not None:
            self._hold_former(former)

    def _hold_former(self, former: FormerStream) -> None:
        """Go on where the run before ended: nobody publishes yet."""
        age = max(0.0, (time.time_ns() - self.request.wall_ns) / 1e9)
        self._started -= age
        self.started_at -= timedelta(seconds=age)
        self._last_input = float("-inf")
        if former.last_update is not None:
            self._params = self._params.updated(former.last_update)
        self.publishers.wait_for_first(former.seconds)
        self.state = State.WAITING_FOR_PUBLISHER

    # for the registry and the HTTP routes

    @property
    def elapsed(self) -> float:
        """Seconds from the publisher's request until now, or until the end."""
        return (self._stopped or time.monotonic()) - self._started

    def may_be_resumed_by(self, request: PublishRequest) -> bool:
        """Whether the publisher of `request` could go on with this stream's paid job."""
        return not self.ending and request.continues(self.request) and self.publishers.may_hold()

    def end_held(self, why: str) -> None:
        """End it where its job waits for the publisher."""
        held = self.publishers.held_job
        if held is not None:
            ended = held.end(why)
            self.end(ended.reason, ended.detail)

    def end(self, reason: EndReason, detail: str, *, leave: bool = False) -> None:
        """Ask for the end. The first reason counts; further calls change nothing.

        With `leave`, its paid jobs are left for another run of the gateway to go on with.
        """
        if not self._told_to_end.done():
            self._leaves_jobs = leave
            self._told_to_end.set_result(Ended(reason, detail))

    @property
    def ending(self) -> bool:
        """Whether the end has been asked for, or has come."""
        return self._told_to_end.done()

    def move(self, why: str) -> None:
        """Have another orchestrator take it. Raises CannotMove."""
        if self.state is not State.LIVE or self.ending:
            state = str(self.state).replace("_", " ")
            raise CannotMove(f"only a live stream can be moved, and this one is {state}")
        if not self.supervisor.move(why):
            raise CannotMove("nobody else can take the stream now")

    async def update(self, params: Mapping[str, Any]) -> Json:
        """Hand new parameters to the worker, and to that of every later job.

        Returns the worker's answer, empty where it gives none. Raises UpdateRefused.
        """
        # refused before any worker knows of it; measured once, as it may be large
        self._measured = self._params, params, self._params.updated(params)
        try:
            return await self.supervisor.update(params)
        finally:
            self._measured = None

    async def adopt_params(self, params: Mapping[str, Any]) -> None:
        """Hand on what a publisher that came back asks for, where that is not what the worker has."""
        if params and params != self._params.newest:
            try:
                await self.update(params)
            except UpdateRefused as refusal:
                self._note_error(f"the worker did not take the publisher's parameters: {refusal}")

    @property
    def params(self) -> Mapping[str, Any]:
        """Parameters for the worker, updates among them, the newest last."""
        return self._params.values

    @property
    def params_size(self) -> int:
        """Bytes of `params` as JSON."""
        return self._params.size

    @property
    def last_update(self) -> Mapping[str, Any] | None:
        """The newest update as it was; None before the first."""
        return self._params.last_update

    def keep_params(self, params: Mapping[str, Any]) -> None:
        """Make these the newest of the parameters. Raises UpdateRefused where they are too large together."""
        before, update, after = self._measured or (None, None, self._params)
        known = before is self._params and update is params
        self._params = after if known else self._params.updated(params)

    def job_status(self) -> JobStatus:
        """The running job's status, or the last one's; sums are over all jobs."""
        return self.supervisor.status()

    def current_error(self) -> tuple[str, int] | None:
        """What is wrong now, or was last, and when that began: milliseconds of the wall clock."""
        session, silence = self.publishers.session, time.monotonic() - self._last_output
        gone = session.silent_for
        if self.state is State.LIVE and gone > TAKEOVER_AFTER and session.interrupted:
            what = f"the publisher's connection broke off {int(gone)} s ago: it may come back"
            return f"{what} within {session.grace:g} s", _wall_ms() - int(gone * 1000)
        problem = None if self.ended else self.job_status().problem
        if problem is not None:  # which says why no picture has come back
            why, since = problem
            return why, _wall_ms() - int((time.monotonic() - since) * 1000)
        expected = self.state is State.LIVE and not self.supervisor.paused
        if expected and silence > OUTPUT_SILENCE and gone < OUTPUT_SILENCE:
            return f"no picture has come back for {int(silence)} s", _wall_ms() - int(silence * 1000)
        return self.error

    def held_bytes(self) -> int:
        held = self.held.size + self.supervisor.held_bytes + self.job_status().held_bytes
        return held + self._params.size

    # frames

    def on_frame(self, frame: Frame) -> None:
        """Take one frame of the publisher; called as soon as its last packet is in."""
        self.held.push(frame)
        self._last_input = time.monotonic()
        self.supervisor.push(frame)
        for tap in tuple(self.source_taps):
            tap.on_frame(frame)

    def on_output(self, frame: Frame) -> None:
        """Take one frame of a job, for the viewers."""
        if isinstance(frame, AccessUnit):
            self._last_output = time.monotonic()
            if self.first_frame_after is None and not self._is_former:
                self.first_frame_after = self.elapsed
                self._trace.end()
                self.log.info("first frame back", seconds=round(self.first_frame_after, 3))
        if self._stopped is None:
            self.output.push(frame)

    # for the supervisor

    @property
    def ingest(self) -> PublisherSession:
        """The publisher: it is connected before any job is opened."""
        return self.publishers.session

    def input_age(self) -> float:
        """Seconds since the publisher's last whole frame."""
        return time.monotonic() - self._last_input

    def report_error(self, detail: str) -> None:
        """The worker does not do what was asked of it, and its job goes on."""
        if self.error is None or self.error[0] != detail:
            self._note_error(detail)

    def on_live(self, made: Sequence[Frame]) -> None:
        """Another job is the active one; `made` are its frames from the time that it stood by."""
        self.output.new_source(made)
        self._last_output = time.monotonic()
        if self.publishers.held_job is None:
            self.state = State.LIVE
        self.log.info("stream live", seconds=round(self.elapsed, 3), swaps=self.supervisor.swaps)
        orchestrator = self.job_status().orchestrator
        self.events.live(orchestrator, self.supervisor.swaps, self.elapsed, self._left_for)

    def on_standby(self, state: str, detail: str) -> None:
        """The job that stands by has its first picture, or is over."""
        standby = self.supervisor.standby_status()
        self.events.standby(state, detail, None if standby is None else standby.orchestrator)

    def on_worker_event(self, event: Json) -> None:
        """The active job's worker said something."""
        self.events.worker_said(event)

    def on_job_failed(self, failure: Ended, *, was_live: bool) -> None:
        """There is no active job for the moment."""
        self.end_held(f"its job failed meanwhile: {failure.detail}")
        self._left_for = failure.detail
        if not isinstance(failure, MoveAsked):
            self._note_error(failure.detail)
        if was_live:
            self.state = State.SWAPPING

    # for the publishers

    def longest_hold(self) -> float:
        """Seconds that the job can be without pictures, by its credit."""
        return self.supervisor.longest_hold

    def on_held(self) -> None:
        """Nobody publishes: the job waits."""
        self.supervisor.hold()
        self.held.clear()
        for tap in tuple(self.source_taps):
            tap.on_clear()
        self.state = State.WAITING_FOR_PUBLISHER

    def on_resumed(self) -> None:
        """A publisher sends its first key frame to the job that waited."""
        self.supervisor.resume()
        self._last_output = time.monotonic()
        self.state = State.LIVE if self.supervisor.live else State.STARTING

    # the life

    async def discard(self) -> None:
        """Undo `answer`, in the place of `run`: the publisher is refused after all."""
        await self.publishers.close()
        await self.supervisor.close(Ended(EndReason.PUBLISHER_LEFT, "it was refused"))
        self._told_to_end.cancel()
        self.finished.set()

    async def run(self) -> None:
        """Serve the publisher until the end, then close everything and log why it ended."""
        try:
            await self._run()
        finally:
            self.finished.set()

    async def _run(self) -> None:
        ended = await self._live()
        self._trace.end(f"{ended.reason}: {ended.detail}")  # which says nothing where a picture was back
        self.end(ended.reason, ended.detail)  # it is `ending` whatever ended it
        self._stopped = time.monotonic()
        self.output.clear()
        if ended.reason not in {EndReason.PUBLISHER_LEFT, EndReason.DELETED, EndReason.DRAINED}:
            self._note_error(ended.detail)
        await self.publishers.close()
        leave = self.left_behind = self._leaves_jobs and ended is self._told_to_end.result()
        await self.supervisor.close(ended, leave=leave)
        self.held.clear()
        self.state = State.ENDED
        self.ended = (ended, datetime.now(UTC))
        payments = self.job_status().payments
        self.log.info(
            "stream ended",
            reason=str(ended.reason),
            detail=ended.detail,
            seconds=round(self.elapsed, 1),
            credited_wei=money.whole_wei(payments.credited) if payments else "0",
            payments=payments.accepted if payments else 0,
            swaps=self.supervisor.swaps,
        )
        self.events.ended(ended, self.elapsed, self.supervisor.swaps, payments)

    async def _live(self) -> Ended:
        steps = (
            self._until_told,
            self._until_time_is_up,
            self.publishers.check_held,
            self._jobs,
        )
        try:
            async with TaskGroup() as group:
                name = f"stream {self.request.request_id}"
                group.create_task(self.publishers.serve(group), name=f"{name} publishers")
                for step in steps:
                    group.create_task(step(), name=f"{name} {step.__name__}")
        except Ended as ended:
            return ended.without_frames()
        except Exception as error:
            self.log.exception("stream failed")
            return Ended(EndReason.INTERNAL_ERROR, f"an error in the gateway: {error!r}")
        raise AssertionError("no step of a stream ends without a reason")

    async def _until_told(self) -> None:
        raise await self._told_to_end

    async def _until_time_is_up(self) -> None:
        seconds = self.request.limits.seconds
        if seconds is not None:
            await asyncio.sleep(WARN_AT * seconds - self.elapsed)
            if self.elapsed < seconds:
                self.events.limit_near("stream_seconds", str(int(self.elapsed)), str(seconds), "s")
            await asyncio.sleep(seconds - self.elapsed)
            raise Ended(EndReason.TIME_LIMIT, f"a stream may last {seconds} s here")

    async def _jobs(self) -> None:
        if self._is_former:
            await self.supervisor.run()
        session = self.publishers.session
        with tracing.ended_with(self._trace.child("connect")):
            await session.connected.wait()
        self.state = State.WAITING_FOR_KEY_FRAME
        with tracing.ended_with(self._trace.child("key frame")):
            await session.key_frame.wait()
        self.state = State.STARTING
        await self.supervisor.run()

    def _note_error(self, what: str) -> None:
        self.error = (what, _wall_ms())


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
