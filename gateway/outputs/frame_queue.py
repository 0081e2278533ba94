"""The frames that wait for an output: a bounded queue that drops up to the next key frame."""

from __future__ import annotations

import asyncio
from collections import deque

from gateway.media.frames import AccessUnit, Frame

MAX_BYTES = 8 * 1024 * 1024
MAX_FRAMES = 2_000


class FrameQueue:
    """Takes frames from the media path without ever blocking it.

    Where too much waits, all of it is dropped, up to the next key frame. While `idle`, nobody takes frames:
    each key frame replaces what was held, so that an output begins with the newest.
    """

    def __init__(self, *, max_bytes: int = MAX_BYTES, max_frames: int = MAX_FRAMES) -> None:
        self.dropped = 0
        """Pictures left out because too much waited."""
        self.idle = True
        self.size = 0
        """Bytes that wait."""
        self._frames: deque[Frame] = deque()
        self._waits_for_key = True
        self._finished = False
        self._more = asyncio.Event()
        self._max_bytes = max_bytes
        self._max_frames = max_frames

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def has_audio(self) -> bool:
        """Whether sound is among what waits."""
        return any(not isinstance(frame, AccessUnit) for frame in self._frames)

    def push(self, frame: Frame) -> None:
        """Add a frame; the first one is a key frame."""
        if self._finished:
            return
        picture = isinstance(frame, AccessUnit)
        if isinstance(frame, AccessUnit) and frame.key:
            if self.idle:
                self.clear()
            self._waits_for_key = False
        elif self._waits_for_key:
            self.dropped += picture and not self.idle
            return
        size = _size(frame)
        if self.size + size > self._max_bytes or len(self._frames) >= self._max_frames:
            lost = sum(isinstance(one, AccessUnit) for one in self._frames)
            self.dropped += 0 if self.idle else lost
            self.clear()
            if not (isinstance(frame, AccessUnit) and frame.key) or size > self._max_bytes:
                self.dropped += picture and not self.idle
                return
            self._waits_for_key = False
        self._frames.append(frame)
        self.size += size
        self._more.set()

    def clear(self) -> None:
        """Drop everything, up to the next key frame."""
        self._frames.clear()
        self.size = 0
        self._waits_for_key = True
        self._settle()

    def finish(self) -> None:
        """No more frames come: those that wait are the last."""
        self._finished = True
        self._more.set()

    async def wait(self) -> None:
        """Wait until there is a frame, or none will come."""
        await self._more.wait()

    def put_back(self, frame: Frame) -> None:
        """Have `frame` be the next one again."""
        self._frames.appendleft(frame)
        self.size += _size(frame)
        self._more.set()

    async def take(self) -> Frame | None:
        """The next frame, once there is one; None where no more will come."""
        await self._more.wait()
        if not self._frames:
            return None
        frame = self._frames.popleft()
        self.size -= _size(frame)
        self._settle()
        return frame

    def _settle(self) -> None:
        if not self._frames and not self._finished:
            self._more.clear()


def _size(frame: Frame) -> int:
    return sum(map(len, frame.nals)) if isinstance(frame, AccessUnit) else len(frame.data)
