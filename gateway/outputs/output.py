"""One output of a stream: its frames through one FFmpeg process after the other."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from gateway.aio.tasks import cancel, spawn
from gateway.media.frames import AccessUnit, Frame
from gateway.media.h264 import NalType, nal_type
from gateway.media.ts_muxer import TsMuxer
from gateway.outputs.ffmpeg import FfmpegFailed, FfmpegProcess
from gateway.outputs.frame_queue import FrameQueue

FIRST_DELAY = 1.0
LONGEST_DELAY = 30.0
"""Seconds before a process that failed is followed by another: twice as long each time."""
LASTED = 60.0
"""Seconds after which a process did not fail at its start: the next delay is the first again."""
SETTLE = 1.0
"""Seconds that the first key frame waits for sound, which a container has to know of from its beginning."""
SOUND_CAME = 25
"""Packets of sound after which an output without begins anew with it."""
PIECE = 64 * 1024
FINISH = 10.0
"""Seconds that an output may take to write what it holds when its stream ends."""
SHORT = 5.0
SHORT_IN_A_ROW = 2
"""After so many processes that lasted less than SHORT seconds, the next one that begins anew waits, too."""


class OutputState(StrEnum):
    WAITING = "waiting"
    """For a key frame."""
    CONNECTING = "connecting"
    LIVE = "live"
    RETRYING = "retrying"
    ENDED = "ended"


class Destination(Protocol):
    """Where an output goes, and by which command."""

    @property
    def shown(self) -> str:
        """As people may see it."""

    @property
    def on_output(self) -> Callable[[bytes], None] | None:
        """Takes what FFmpeg writes to its standard output; None: its progress is there."""

    async def begin(self, *, audio: bool) -> list[str]:
        """FFmpeg's arguments for a new process. Raises FfmpegFailed, or DestinationGone: not again."""

    def is_due(self) -> bool:
        """Whether another process is to begin with this key frame."""

    async def interrupted(self) -> None:
        """Wait until the process has to end. Raises FfmpegFailed, or DestinationGone: none follows."""

    async def ended(self, written: int) -> None:
        """A process has ended that wrote so many bytes."""

    def masked(self, text: str) -> str:
        """FFmpeg's words without secrets."""


class DestinationGone(Exception):
    """There is no use in trying again; the text says why."""


class _EndsAnew(Exception):
    """Another process is to begin with the key frame that comes next; nothing failed."""


class Output:
    """A tap of a stream. `run` is its life; `close` ends it.

    A new process begins where the picture's format changes, as no container that players read takes that,
    and where sound comes to a stream without.
    """

    def __init__(
        self,
        destination: Destination,
        program: str,
        *,
        log: FilteringBoundLogger,
        source: bool = False,
        request_key_frame: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = secrets.token_hex(4)
        self.destination = destination
        self.source = source
        """Whether it is the publisher's stream, not the result."""
        self.state = OutputState.WAITING
        self.restarts = 0
        """How often a process followed one that failed."""
        self.error = ""
        """Why the last one failed."""
        self.queue = FrameQueue()
        self._written = 0
        self._program = program
        self._log = log.bind(output=self.id, to=destination.shown)
        self._request_key_frame = request_key_frame
        self._clock = clock
        self._process: FfmpegProcess | None = None
        self._finishing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def bytes(self) -> int:
        """Written so far."""
        return self._written + (0 if self._process is None else self._process.bytes)

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        self._task = spawn(self._run(), name=f"output {self.id}")

    async def close(self) -> None:
        """Write what it holds, within FINISH, and end. Idempotent."""
        self._finishing.set()
        self.queue.finish()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=FINISH)
            await cancel(self._task)

    # the tap

    def on_frame(self, frame: Frame) -> None:
        if self.state is not OutputState.ENDED:
            self.queue.push(frame)

    def on_clear(self) -> None:
        """The stream ended: what is held is still sent."""

    # its life

    async def _run(self) -> None:
        delay, short = FIRST_DELAY, 0
        try:
            while await self._wait_for_start():
                began = self._clock()
                try:
                    await self._once()
                except _EndsAnew:
                    short = short + 1 if self._clock() - began < SHORT else 0
                    if short == 0:
                        delay = FIRST_DELAY
                    if short <= SHORT_IN_A_ROW:
                        continue
                    self._note("the format of the pictures changes all the time")
                except FfmpegFailed as error:
                    if self._finishing.is_set():
                        break
                    if self._clock() - began > LASTED:
                        delay = FIRST_DELAY
                    self._note(str(error))
                    self.restarts += 1
                else:
                    continue
                self.state = OutputState.RETRYING
                await self._pause(delay)
                delay = min(2 * delay, LONGEST_DELAY)
        except DestinationGone as error:
            self._note(str(error))
        finally:
            self.state = OutputState.ENDED
            self.queue.clear()

    def _note(self, error: str) -> None:
        if error != self.error or self.restarts == 0:
            self._log.warning("output failed", detail=error)
        self.error = error

    async def _pause(self, seconds: float) -> None:
        self.queue.idle = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._finishing.wait(), seconds)

    async def _wait_for_start(self) -> bool:
        """Wait for a key frame, and a while for sound. False: the stream has ended without."""
        if len(self.queue) == 0:
            self.state = OutputState.WAITING
            self._request_key_frame()
            await self.queue.wait()
        self.queue.idle = False
        until = self._clock() + SETTLE
        while not (self.queue.has_audio or self._finishing.is_set()):
            if self._clock() > until:
                break
            await asyncio.sleep(SETTLE / 20)
        return len(self.queue) > 0

    async def _once(self) -> None:
        """One process, until it fails, is followed by another, or the stream has ended."""
        audio = self.queue.has_audio
        self.state = OutputState.CONNECTING
        arguments = await self.destination.begin(audio=audio)
        try:
            process = await FfmpegProcess.start(
                self._program, arguments, self.destination.masked, self.destination.on_output
            )
        except BaseException:
            await self.destination.ended(0)
            raise
        self._process = process
        steps = [
            spawn(self._feed(process, audio), name=f"output-feed {self.id}", expected=(Exception,)),
            spawn(self.destination.interrupted(), name=f"output-look {self.id}", expected=(Exception,)),
            spawn(process.wait(), name=f"output-wait {self.id}"),
        ]
        try:
            done, _ = await asyncio.wait(steps, return_when=asyncio.FIRST_COMPLETED)
            for step in steps[:2]:
                if step in done:
                    step.result()
                    return
            raise FfmpegFailed(await process.ended())
        finally:
            await cancel(*steps)
            await process.close()
            self._written += process.bytes
            self._process = None
            await self.destination.ended(process.bytes)

    async def _feed(self, process: FfmpegProcess, audio: bool) -> None:
        muxer, format_, unheard = TsMuxer(), None, 0
        pieces: list[bytes] = []
        size = 0
        while (frame := await self.queue.take()) is not None:
            if isinstance(frame, AccessUnit) and frame.key:
                this = [nal for nal in frame.nals if nal_type(nal) == NalType.SPS]
                anew = (format_ is not None and this != format_) or unheard >= SOUND_CAME
                if format_ is not None and (anew or self.destination.is_due()):
                    self.queue.put_back(frame)
                    await process.write(b"".join(pieces))
                    raise _EndsAnew
                format_ = this
                pieces.append(muxer.tables(audio=audio))
            if not isinstance(frame, AccessUnit) and not audio:
                unheard += 1
                continue
            pieces.append(muxer.frame(frame))
            size += len(pieces[-1])
            if size >= PIECE or len(self.queue) == 0:
                await process.write(b"".join(pieces))
                pieces, size = [], 0
            if process.live and self.state is not OutputState.LIVE:
                self.state = OutputState.LIVE
                self._log.info("output live")
        await process.write(b"".join(pieces))
