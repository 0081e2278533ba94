"""The streams that somebody watches by HLS: made with the first request, gone a while after the last."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable

import structlog

from gateway.aio.tasks import cancel, spawn
from gateway.outputs.ffmpeg import HLS_ARGUMENTS, FfmpegFailed, hls_sound
from gateway.outputs.fragments import BadFragments, FragmentReader
from gateway.outputs.hls import HlsWindow
from gateway.outputs.output import Output
from gateway.stream.admission import NotAdmitted
from gateway.stream.audience import Audience

log = structlog.get_logger("hls")

MAX_STREAMS = 64
"""Streams at once: each is a process of FFmpeg."""
IDLE = 30.0
"""Seconds without a request after which a stream is no longer made."""
LOOK = 10.0
"""Seconds between two looks whether it is published: after two without, it is no longer made."""
FIRST = 8.0
"""Seconds that the first request waits for the first segment."""


class NoHls(Exception):
    """A stream that cannot be had by HLS now; `busy` where it can be soon, or elsewhere."""

    def __init__(self, detail: str, *, busy: bool = False) -> None:
        super().__init__(detail)
        self.busy = busy


class HlsEnd:
    """FFmpeg's standard output, as a destination of an output."""

    shown = "hls:"

    def __init__(self, window: HlsWindow) -> None:
        self._window = window
        self._reader = FragmentReader()
        self._unreadable = asyncio.Event()

    async def begin(self, *, audio: bool) -> list[str]:
        self._reader = FragmentReader()
        self._unreadable.clear()
        return [*HLS_ARGUMENTS[:-1], *hls_sound(audio=audio), HLS_ARGUMENTS[-1]]

    def on_output(self, data: bytes) -> None:
        """Take what FFmpeg wrote."""
        if self._unreadable.is_set():
            return
        try:
            for one in self._reader.feed(data):
                self._window.add(one)
        except BadFragments as error:
            log.error("FFmpeg's output cannot be read", detail=str(error))
            self._unreadable.set()
            self._reader = FragmentReader()

    def is_due(self) -> bool:
        return False

    async def interrupted(self) -> None:
        await self._unreadable.wait()
        raise FfmpegFailed("what it wrote cannot be read")

    async def ended(self, written: int) -> None:
        """Nothing is left to do."""

    def masked(self, text: str) -> str:
        return text


class HlsStreams:
    """Windows by stream name. `is_live` says whether a name is published, here or on another node."""

    def __init__(
        self,
        audience: Audience,
        program: str,
        is_live: Callable[[str], Awaitable[bool]],
        *,
        first: float = FIRST,
        look: float = LOOK,
    ) -> None:
        self._audience = audience
        self._program = program
        self._is_live = is_live
        self._first = first
        self._look = look
        self._windows: dict[str, HlsWindow] = {}
        self._asked: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._windows)

    async def playlist(self, name: str, number: int | None = None) -> str:
        """The playlist of a stream, once segment `number` is there. Raises NoHls."""
        window = self._windows.get(name)
        if window is None:
            if not await self._is_live(name):
                raise NoHls(f"no live stream has the name {name[:140]!r}")
            try:
                self._audience.check_viewer()
            except NotAdmitted as error:
                raise NoHls(str(error), busy=True) from error
            window = self._windows.get(name) or self._open(name)
        self._asked[name] = time.monotonic()
        if number is not None and number > window.newest + 2:
            raise NoHls("that segment is far ahead: ask for the playlist without _HLS_msn")
        await window.wait(0 if number is None else number, self._first)
        if self._windows.get(name) is window:
            self._asked[name] = time.monotonic()
        text = window.playlist()
        if not text:
            raise NoHls("the stream has no picture yet: try again", busy=True)
        return text

    def file(self, name: str, file: str) -> bytes | None:
        """A segment or header; None where it is not there."""
        window = self._windows.get(name)
        if window is None:
            return None
        self._asked[name] = time.monotonic()
        return window.file(file)

    async def close(self) -> None:
        """Make none any more."""
        await cancel(*self._tasks.values())

    def _open(self, name: str) -> HlsWindow:
        if len(self._windows) >= MAX_STREAMS:
            raise NoHls(f"{MAX_STREAMS} streams are watched by HLS, more are not made", busy=True)
        if shutil.which(self._program) is None:
            raise NoHls("this gateway has no FFmpeg, so it makes no HLS")
        window = self._windows[name] = HlsWindow()
        self._asked[name] = time.monotonic()
        self._tasks[name] = spawn(self._serve(name, window), name=f"hls {name}")
        return window

    async def _serve(self, name: str, window: HlsWindow) -> None:
        output = Output(
            HlsEnd(window),
            self._program,
            log=log.bind(stream=name),
            request_key_frame=lambda: self._audience.request_key_frame(name),
        )
        try:
            fanout = await self._audience.follow(name)
            for frame in fanout.held_frames():
                output.on_frame(frame)
            fanout.taps.append(output)
            output.start()
            try:
                await self._until_unused(name)
            finally:
                fanout.taps.remove(output)
        finally:
            self._audience.unfollow(name)
            del self._windows[name], self._asked[name], self._tasks[name]
            await output.close()

    async def _until_unused(self, name: str) -> None:
        """Wait until nobody asks for a stream, or nobody publishes it: players poll ended ones, too."""
        gone = 0
        while gone < 2 and (idle := time.monotonic() - self._asked[name]) < IDLE:
            await asyncio.sleep(min(IDLE - idle, self._look))
            gone = 0 if await self._is_live(name) else gone + 1
