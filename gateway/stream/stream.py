"""One stream, from its publisher's offer to the log line that says why it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import structlog

from gateway import money
from gateway.aio.tasks import TaskGroup
from gateway.media.fanout import Fanout
from gateway.media.frames import AccessUnit, Frame
from gateway.media.gop import GopBuffer
from gateway.reason import Ended, EndReason
from gateway.stream.seam import Candidate, JobStatus, Json, PublishRequest, merge_params
from gateway.stream.sources import JobSources
from gateway.stream.supervisor import Supervisor
from gateway.stream.swap import SwapPolicy
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.errors import ConnectFailed
from gateway.webrtc.ingest import IngestStats
from gateway.webrtc.publisher import Publisher

KEY_FRAME_TIMEOUT = 10.0
"""Seconds of media without a key frame after which a stream is ended."""
TAKEOVER_AFTER = 2.0
"""Seconds without media after which another publisher may take the name over."""
OUTPUT_SILENCE = 3.0
"""Seconds without a picture back, while the publisher sends, after which status shows an error."""
WITH_MEDIA = 0.5
"""Seconds after the last media in which another datagram counts as sent together with it."""
MEDIA_POLL = 0.25


class State(StrEnum):
    STARTING = "starting"
    WAITING_FOR_KEY_FRAME = "waiting_for_key_frame"
    LIVE = "live"
    SWAPPING = "swapping"
    ENDED = "ended"


class Stream:
    """Connects a publisher, the jobs that transform its pictures, and the output for viewers.

    Frames go from the publisher through `on_frame` to the job, and from the job to `output`. `run` is the
    whole life; `end` asks for its end from outside. The supervisor decides which job it is.
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
        await_room: bool = False,
    ) -> None:
        self.request = request
        self.params: Mapping[str, Any] = request.params
        """Parameters for the worker, updates among them, the newest last."""
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
            sources, request, candidates, self, policy=swaps, log=self.log, await_room=await_room
        )
        self._ingest_timeout = ingest_timeout
        self._grace = ingest_timeout
        self._publisher: Publisher | None = None
        self._last_stats: IngestStats | None = None
        self._started = time.monotonic()
        self._stopped: float | None = None
        self._last_output = self._started
        self._last_input = self._started
        self.held = GopBuffer()
        """The publisher's frames since its last key frame."""
        self._key_frame = asyncio.Event()
        self._connected = asyncio.Event()
        self._told_to_end: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self.finished = asyncio.Event()

    # for the registry and the HTTP routes

    async def answer(self, offer: str, config: WebRtcConfig) -> Publisher:
        """Answer the publisher's SDP. Raises OfferRefused, with nothing left open."""
        if config.ice.grace is not None:
            self._grace = config.ice.grace
        self._publisher = await Publisher.answer_offer(offer, config=config, sink=self.on_frame, log=self.log)
        return self._publisher

    @property
    def publisher(self) -> Publisher | None:
        """The publisher's peer; None after the end."""
        return self._publisher

    @property
    def ingest_stats(self) -> IngestStats | None:
        """The publisher's figures, the last ones after the end."""
        return self._publisher.stats() if self._publisher is not None else self._last_stats

    @property
    def elapsed(self) -> float:
        """Seconds from the publisher's request until now, or until the end."""
        return (self._stopped or time.monotonic()) - self._started

    @property
    def silent_for(self) -> float:
        """Seconds since the last media; since the request where none came."""
        last = self._publisher.stats().last_media_at if self._publisher else None
        return time.monotonic() - (last if last is not None else self._started)

    @property
    def interrupted(self) -> bool:
        """Whether the publisher's connection seems broken: nothing at all came since its last media."""
        if self._publisher is None or not self._connected.is_set():
            return False
        return self._publisher.last_received < time.monotonic() - self.silent_for + WITH_MEDIA

    def end(self, reason: EndReason, detail: str) -> None:
        """Ask for the end. The first reason counts; further calls change nothing."""
        if not self._told_to_end.done():
            self._told_to_end.set_result(Ended(reason, detail))

    @property
    def ending(self) -> bool:
        """Whether the end has been asked for, or has come."""
        return self._told_to_end.done()

    async def update(self, params: Mapping[str, Any]) -> Json:
        """Hand new parameters to the worker, and to that of every later job.

        Returns the worker's answer, empty where it gives none. Raises UpdateRefused.
        """
        return await self.supervisor.update(params)

    def keep_params(self, params: Mapping[str, Any]) -> None:
        """Make these the newest of the parameters."""
        self.params = merge_params(self.params, params)

    def job_status(self) -> JobStatus:
        """The running job's status, or the last one's; sums are over all jobs."""
        return self.supervisor.status()

    def current_error(self) -> tuple[str, int] | None:
        """What is wrong now, or was last, and when that began: milliseconds of the wall clock."""
        silence = time.monotonic() - self._last_output
        if self.state is State.LIVE and self.silent_for > TAKEOVER_AFTER and self.interrupted:
            gone = self.silent_for
            what = f"the publisher's connection broke off {int(gone)} s ago: it may come back"
            return f"{what} within {self._grace:g} s", _wall_ms() - int(gone * 1000)
        expected = self.state is State.LIVE and not self.supervisor.paused
        if expected and silence > OUTPUT_SILENCE and self.silent_for < OUTPUT_SILENCE:
            return f"no picture has come back for {int(silence)} s", _wall_ms() - int(silence * 1000)
        return self.error

    def held_bytes(self) -> int:
        return self.held.size + self.supervisor.held_bytes + self.job_status().held_bytes

    # frames

    def on_frame(self, frame: Frame) -> None:
        """Take one frame of the publisher; called as soon as its last packet is in."""
        self.held.push(frame)
        self._last_input = time.monotonic()
        self.supervisor.push(frame)
        if not self._key_frame.is_set() and isinstance(frame, AccessUnit) and frame.key:
            self._key_frame.set()

    def on_output(self, frame: Frame) -> None:
        """Take one frame of a job, for the viewers."""
        if isinstance(frame, AccessUnit):
            self._last_output = time.monotonic()
            if self.first_frame_after is None:
                self.first_frame_after = self.elapsed
                self.log.info("first frame back", seconds=round(self.first_frame_after, 3))
        if self._stopped is None:
            self.output.push(frame)

    # for the supervisor

    @property
    def ingest(self) -> Publisher:
        """The publisher: it is connected before any job is opened."""
        assert self._publisher is not None
        return self._publisher

    def input_age(self) -> float:
        """Seconds since the publisher's last whole frame."""
        return time.monotonic() - self._last_input

    def on_live(self, made: Sequence[Frame]) -> None:
        """Another job is the active one; `made` are its frames from the time that it stood by."""
        self.output.new_source(made)
        self._last_output = time.monotonic()
        self.state = State.LIVE
        self.log.info("stream live", seconds=round(self.elapsed, 3), swaps=self.supervisor.swaps)

    def on_job_failed(self, failure: Ended, *, was_live: bool) -> None:
        """There is no active job for the moment."""
        self._note_error(failure.detail)
        if was_live:
            self.state = State.SWAPPING

    # the life

    async def discard(self) -> None:
        """Undo `answer`, in the place of `run`: the publisher is refused after all."""
        await self._close_publisher()
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
        self.end(ended.reason, ended.detail)  # it is `ending` whatever ended it
        self._stopped = time.monotonic()
        self.output.clear()
        if ended.reason not in {EndReason.PUBLISHER_LEFT, EndReason.DELETED, EndReason.DRAINED}:
            self._note_error(ended.detail)
        await self._close_publisher()
        await self.supervisor.close(ended)
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

    async def _close_publisher(self) -> None:
        """Close the peer; its last figures are kept."""
        if self._publisher is not None:
            self._last_stats = self._publisher.stats()
            await self._publisher.close()
            self._publisher = None

    async def _live(self) -> Ended:
        steps = (
            self._until_told,
            self._until_time_is_up,
            self._while_connected,
            self._while_media_flows,
            self._jobs,
        )
        try:
            async with TaskGroup() as group:
                for step in steps:
                    group.create_task(step(), name=f"stream {self.request.request_id} {step.__name__}")
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
            await asyncio.sleep(seconds - self.elapsed)
            raise Ended(EndReason.TIME_LIMIT, f"a stream may last {seconds} s here")

    async def _while_connected(self) -> None:
        assert self._publisher is not None
        try:
            await self._publisher.connect()
        except ConnectFailed as error:
            raise Ended(EndReason.INGEST_TIMEOUT, str(error)) from error
        self.log.info("publisher connected", seconds=round(self.elapsed, 3))
        self._connected.set()
        why = await self._publisher.wait_closed()
        raise Ended(EndReason.PUBLISHER_LEFT, why)

    async def _while_media_flows(self) -> None:
        await self._connected.wait()
        connected_at = time.monotonic()
        assert self._publisher is not None
        silence = 0.0
        while True:
            # while media comes, no limit can be reached sooner than this
            spare = min(self._ingest_timeout, self._grace) - silence if self._key_frame.is_set() else 0.0
            await asyncio.sleep(max(MEDIA_POLL, spare))
            now = time.monotonic()
            last = self._publisher.stats().last_media_at
            silence = now - (last if last is not None else connected_at)
            if silence > (self._grace if self.interrupted else self._ingest_timeout):
                raise Ended(EndReason.INGEST_TIMEOUT, f"no media came for {silence:.1f} s")
            if self.state is State.WAITING_FOR_KEY_FRAME and now - connected_at > KEY_FRAME_TIMEOUT:
                raise Ended(
                    EndReason.NO_KEY_FRAME,
                    f"media came for {KEY_FRAME_TIMEOUT:.0f} s without a key frame: set the encoder's "
                    "key frame interval to 2 s or less",
                )

    async def _jobs(self) -> None:
        await self._connected.wait()
        self.state = State.WAITING_FOR_KEY_FRAME
        await self._key_frame.wait()
        self.state = State.STARTING
        await self.supervisor.run()

    def _note_error(self, what: str) -> None:
        self.error = (what, _wall_ms())


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
