"""A job's pictures and sound over two trickle channels: one to the worker, one back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiohttp
from structlog.typing import FilteringBoundLogger

from gateway.media.frames import Frame
from gateway.media.gop import GopBuffer
from gateway.media.segmenter import Segmenter
from gateway.media.ts_demuxer import TsDemuxer
from gateway.trickle.publisher import TricklePublisher
from gateway.trickle.subscriber import TrickleSubscriber

INPUT_RECENT = 1.0
"""Seconds since the publisher's last frame within which output is expected."""


class Relay:
    """Sends frames as MPEG-TS segments and reads those that come back, from segment 0 on.

    `begin` comes before the first `push`; `run`, `read` and `wait_too_slow` are tasks of the job.
    """

    def __init__(
        self, http: aiohttp.ClientSession, publish_url: str, subscribe_url: str, log: FilteringBoundLogger
    ) -> None:
        self.uplink = TricklePublisher(http, publish_url, log=log)
        self.downlink = TrickleSubscriber(http, subscribe_url, start=0, log=log)
        self._segmenter: Segmenter | None = None
        self._last_sign = self._last_input = time.monotonic()

    def begin(self, held: GopBuffer) -> None:
        """Send what the stream held; what is pushed follows. Sound is declared where some is held."""
        self._segmenter = Segmenter(self.uplink.open_segment, audio=held.holds_audio)
        for frame in held.frames():
            self._segmenter.push(frame)

    def push(self, frame: Frame) -> None:
        if self._segmenter is not None:
            self._last_input = time.monotonic()
            self._segmenter.push(frame)

    def new_source(self) -> None:
        """The next frames come from another encoder."""
        if self._segmenter is not None:
            self._segmenter.new_source()

    def silence(self, last_event: float = 0.0) -> float:
        """For how many seconds something has been due: none while nothing is sent.

        `last_event` is when the worker gave another sign of life (monotonic seconds).
        """
        now = time.monotonic()
        if now - self._last_input > INPUT_RECENT:
            self._last_sign = now
        return now - max(self._last_sign, last_event)

    async def read(self, on_output: Callable[[Frame], None]) -> None:
        """Hand on what comes back, until the channel ends. Raises ChannelError."""
        demuxer = TsDemuxer()
        try:
            async for segment in self.downlink.segments():
                async for chunk in segment.chunks():
                    self._last_sign = time.monotonic()
                    for frame in demuxer.feed(chunk):
                        on_output(frame)
                if segment.truncated:
                    demuxer.discard()
                for frame in demuxer.flush():
                    on_output(frame)
        finally:
            await self.downlink.close()

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
