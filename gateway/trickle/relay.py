"""A job's pictures and sound over two trickle channels: one to the worker, one back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import aiohttp
from structlog.typing import FilteringBoundLogger

from gateway.aio.tasks import cancel, spawn
from gateway.media.frames import AccessUnit, Frame
from gateway.media.gop import GopBuffer
from gateway.media.segmenter import Segmenter
from gateway.media.ts_demuxer import TsDemuxer
from gateway.media.unshowable import why_unshowable
from gateway.trickle.errors import ChannelError
from gateway.trickle.publisher import TricklePublisher
from gateway.trickle.subscriber import TrickleSubscriber
from gateway.trickle.wire import NEXT

KEY_FRAME_AFTER = 2.0
"""Seconds of a segment after which a key frame is asked for."""
ASK_AGAIN = 0.5
"""Seconds between two requests, until the segment is ASK_SELDOM_AFTER seconds long."""
ASK_SELDOM = 2.0
"""Seconds between two requests to an encoder that does not listen."""
ASK_SELDOM_AFTER = 4.0
INPUT_RECENT = 1.0
"""Seconds since the publisher's last frame within which output is expected."""
FRAMES_AT_ONCE = 16
"""Frames that are handed on before other tasks get their turn."""


class Relay:
    """Sends frames as MPEG-TS segments and reads those that come back, from segment 0 on.

    With `resume` both go on from the next segments of channels that another process has used; `after` is the
    time that its pictures had come to by now, in ticks. `name` stands for the URLs in logs where those are
    secrets.
    `begin` comes before the first `push`; `send`, `read` and `wait_too_slow` are tasks of the job.
    `request_key_frame` asks the publisher for one: a segment begins with it.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        publish_url: str,
        subscribe_url: str,
        request_key_frame: Callable[[], None],
        log: FilteringBoundLogger,
        *,
        name: str = "",
        resume: bool = False,
        after: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.uplink = TricklePublisher(http, publish_url, name=name, resume=resume, log=log)
        self.downlink = TrickleSubscriber(
            http, subscribe_url, name=name, start=NEXT if resume else 0, log=log
        )
        self._request_key_frame = request_key_frame
        self._log = log
        self._ask_at = KEY_FRAME_AFTER
        self._sending: asyncio.Task[None] | None = None
        self._after = after
        self._segmenter: Segmenter | None = None
        self._clock = clock
        self._last_sign = self._last_input = clock()
        self.problem: tuple[str, float] | None = None
        """Why nothing that comes back can be shown, and since when (monotonic seconds)."""

    def begin(self, held: GopBuffer, *, audio: bool = True) -> None:
        """Send what the stream held; what is pushed follows. Sound is declared where some is held.

        Without `audio` there is none: the worker takes no sound.
        """
        self._segmenter = Segmenter(
            self.uplink.open_segment,
            audio=audio and held.holds_audio,
            after=self._after,
            clock=self._clock,
        )
        for frame in held.frames():
            if audio or isinstance(frame, AccessUnit):
                self._segmenter.push(frame)

    def newest(self) -> int | None:
        """The time of the newest picture that was sent, in ticks; None before the first."""
        return self._after if self._segmenter is None else self._segmenter.newest

    def push(self, frame: Frame) -> None:
        if self._segmenter is not None:
            self._last_input = self._clock()
            self._segmenter.push(frame)
            self._ask_for_key_frame(self._segmenter.age)

    def _ask_for_key_frame(self, age: float) -> None:
        """Ask for a key frame where the segment is `age` seconds long and none has ended it."""
        if age < KEY_FRAME_AFTER:
            self._ask_at = KEY_FRAME_AFTER
        elif age >= self._ask_at:
            self._ask_at = age + (ASK_AGAIN if age < ASK_SELDOM_AFTER else ASK_SELDOM)
            self._request_key_frame()

    def new_source(self) -> None:
        """The next frames come from another encoder."""
        if self._segmenter is not None:
            self._segmenter.new_source()

    def silence(self, last_event: float = 0.0) -> float:
        """For how many seconds something has been due: none while nothing is sent.

        `last_event` is when the worker gave another sign of life (monotonic seconds).
        """
        now = self._clock()
        if now - self._last_input > INPUT_RECENT:
            self._last_sign = now
        return now - max(self._last_sign, last_event)

    async def send(self) -> None:
        """Send what is pushed, until the channel ends. Raises ChannelError.

        Cancelled, the sending goes on until `close`: the last segment arrives whole.
        """
        self._sending = spawn(self.uplink.run(), name=f"uplink {self.uplink.name}", expected=(ChannelError,))
        await asyncio.shield(self._sending)

    async def read(self, on_output: Callable[[Frame], None]) -> None:
        """Hand on what comes back, until the channel ends. Raises ChannelError."""
        demuxer = TsDemuxer()
        size = 0  # since the newest picture
        try:
            async for segment in self.downlink.segments():
                async for chunk in segment.chunks():
                    self._last_sign = self._clock()
                    frames = demuxer.feed(chunk)
                    size = 0 if _has_picture(frames) else size + len(chunk)
                    self._note_problem(why_unshowable(demuxer.program, size))
                    await _hand_on(frames, on_output)
                if segment.truncated:
                    demuxer.discard()
                frames = demuxer.flush()
                size = 0 if _has_picture(frames) else size
                await _hand_on(frames, on_output)
        finally:
            await self.downlink.close()

    def _note_problem(self, why: str) -> None:
        if not why:
            self.problem = None
        elif self.problem is None or self.problem[0] != why:
            self.problem = (why, self._clock())
            self._log.warning("nothing that comes back can be shown", detail=why)

    async def wait_too_slow(self, seconds: float) -> None:
        """Return once too many segments have been in flight for so long."""
        while True:
            await self.uplink.wait_slow()
            await asyncio.sleep(seconds)
            if self.uplink.slow:
                return

    def end_input(self) -> None:
        """Finish the segment that is being sent."""
        if self._segmenter is not None:
            self._segmenter.close()

    async def close(self, *, leave: bool = False) -> bool:
        """Finish the last segment, and close the channel to the worker, or `leave` it open.

        Returns whether that was answered.
        """
        self.end_input()
        try:
            return await self.uplink.close(leave=leave)
        finally:
            await cancel(self._sending)
            self._sending = None
            self._request_key_frame = _ask_nobody


def _ask_nobody() -> None:
    pass


def _has_picture(frames: Sequence[Frame]) -> bool:
    return any(isinstance(frame, AccessUnit) for frame in frames)


async def _hand_on(frames: Sequence[Frame], on_output: Callable[[Frame], None]) -> None:
    """Give way to other tasks now and then: one chunk may hold hundreds of frames."""
    for number, frame in enumerate(frames, start=1):
        on_output(frame)
        if number % FRAMES_AT_ONCE == 0:
            await asyncio.sleep(0)
