"""One stream's life, from its publisher's offer to the line that says why it ended."""

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
"""Seconds of media without a key frame after which a stream is given up."""
TAKEOVER_AFTER = 2.0
"""Seconds without media after which another publisher may take the name over."""
OUTPUT_SILENCE = 3.0
"""Seconds without a picture back, while the publisher sends, that status calls an error."""
BREAKING_OFF = 0.5
"""Seconds after the last media in which a datagram still counts as one that came with it."""
MEDIA_POLL = 0.25


class State(StrEnum):
    STARTING = "starting"
    WAITING_FOR_KEY_FRAME = "waiting_for_key_frame"
    LIVE = "live"
    SWAPPING = "swapping"
    ENDED = "ended"


class Stream:
    """A publisher, the jobs that transform it and the viewers of its name, held together.

    Frames go from the publisher through `on_frame` to the job, and from the job to `output`. `run` is
    the whole life; `end` asks for its end from outside. Which job it is, its supervisor decides.
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
        """The last error in words, and when: milliseconds of the wall clock."""
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

    # what the outside asks

    async def answer(self, offer: str, config: WebRtcConfig) -> Publisher:
        """Answer the publisher's SDP. Raises OfferRefused, with nothing left behind."""
        if config.ice.grace is not None:
            self._grace = config.ice.grace
        self._publisher = await Publisher.answer_offer(offer, config=config, sink=self.on_frame, log=self.log)
        return self._publisher

    @property
    def publisher(self) -> Publisher | None:
        """The publisher's peer, until the end."""
        return self._publisher

    @property
    def ingest_stats(self) -> IngestStats | None:
        """How the ingest is doing, or did last."""
        return self._publisher.stats() if self._publisher is not None else self._last_stats

    @property
    def elapsed(self) -> float:
        """Seconds since the publisher's request, until the end."""
        return (self._stopped or time.monotonic()) - self._started

    @property
    def silent_for(self) -> float:
        """Seconds since media last came; since the request where none ever did."""
        last = self._publisher.stats().last_media_at if self._publisher else None
        return time.monotonic() - (last if last is not None else self._started)

    @property
    def broke_off(self) -> bool:
        """Whether the publisher's connection is gone, for now at least: nothing has come since its media."""
        if self._publisher is None or not self._connected.is_set():
            return False
        return self._publisher.last_received < time.monotonic() - self.silent_for + BREAKING_OFF

    def end(self, reason: EndReason, detail: str) -> None:
        """Ask for the end. The first asker's reason counts; asking again changes nothing."""
        if not self._told_to_end.done():
            self._told_to_end.set_result(Ended(reason, detail))

    @property
    def ending(self) -> bool:
        """Whether the end has been asked for."""
        return self._told_to_end.done()

    async def update(self, params: Mapping[str, Any]) -> Json:
        """Hand new parameters to the worker now, and to every later one with its job's start.

        Gives what the worker answers, empty where it never does. Raises UpdateRefused.
        """
        return await self.supervisor.update(params)

    def keep_params(self, params: Mapping[str, Any]) -> None:
        """Make these the newest of the parameters."""
        self.params = merge_params(self.params, params)

    def job_status(self) -> JobStatus:
        """The running job's status, or the last one's; sums are over all jobs."""
        return self.supervisor.status()

    def current_error(self) -> tuple[str, int] | None:
        """The last error, or the picture's absence where it does not come back."""
        silence = time.monotonic() - self._last_output
        if self.state is State.LIVE and self.silent_for > TAKEOVER_AFTER and self.broke_off:
            gone = self.silent_for
            words = f"the publisher's connection broke off {int(gone)} s ago: it may come back"
            return f"{words} within {self._grace:g} s", _wall_ms() - int(gone * 1000)
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

    # what the supervisor asks

    @property
    def ingest(self) -> Publisher:
        """The publisher, which is there before any job."""
        assert self._publisher is not None
        return self._publisher

    def input_age(self) -> float:
        """Seconds since the publisher's last whole frame."""
        return time.monotonic() - self._last_input

    def on_live(self, made: Sequence[Frame]) -> None:
        """Another job's frames come from now on, after those that it has made while it stood by."""
        self.output.new_source(made)
        self._last_output = time.monotonic()
        self.state = State.LIVE
        self.log.info("stream live", seconds=round(self.elapsed, 3), swaps=self.supervisor.swaps)

    def on_job_failed(self, failure: Ended, *, was_live: bool) -> None:
        """There is no job for the moment."""
        self._note_error(failure.detail)
        if was_live:
            self.state = State.SWAPPING

    # the life

    async def discard(self) -> None:
        """Give back what `answer` took, in the place of `run`: the publisher is refused after all."""
        await self._let_publisher_go()
        await self.supervisor.close(Ended(EndReason.PUBLISHER_LEFT, "it was refused"))
        self._told_to_end.cancel()
        self.finished.set()

    async def run(self) -> None:
        """Live until the end, then give everything back and say why it ended."""
        try:
            await self._run()
        finally:
            self.finished.set()

    async def _run(self) -> None:
        ended = await self._live()
        self._stopped = time.monotonic()
        self.output.clear()
        if ended.reason not in {EndReason.PUBLISHER_LEFT, EndReason.DELETED, EndReason.DRAINED}:
            self._note_error(ended.detail)
        await self._let_publisher_go()
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

    async def _let_publisher_go(self) -> None:
        """Keep its last figures and nothing else: an ended stream is remembered for a minute."""
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
            return Ended(EndReason.INTERNAL_ERROR, f"a mistake in the gateway: {error!r}")
        raise AssertionError("a stream's steps end with a reason")

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
            # While all is well nothing can be overdue any sooner.
            spare = min(self._ingest_timeout, self._grace) - silence if self._key_frame.is_set() else 0.0
            await asyncio.sleep(max(MEDIA_POLL, spare))
            now = time.monotonic()
            last = self._publisher.stats().last_media_at
            silence = now - (last if last is not None else connected_at)
            if silence > (self._grace if self.broke_off else self._ingest_timeout):
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

    def _note_error(self, words: str) -> None:
        self.error = (words, _wall_ms())


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
