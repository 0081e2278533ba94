"""What comes back: pictures are counted, timed and held against what was sent."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

GRID = 8
"""Pictures are compared by the mean brightness of so many by so many fields."""
CHANGED = 12.0
"""Of 255: by how much fields differ on average where a picture was changed. Coding makes 1 or 2."""


def brightness(frame: av.VideoFrame) -> list[int]:
    """The mean brightness, 0 to 255, of the fields of a picture, row by row."""
    small = frame.reformat(GRID, GRID, "gray", interpolation="AREA")
    plane = small.planes[0]
    pixels = bytes(plane)
    return [pixel for y in range(GRID) for pixel in pixels[y * plane.line_size : y * plane.line_size + GRID]]


def differ(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two pictures are not the same one, coded anew."""
    return sum(abs(here - there) for here, there in zip(one, other, strict=True)) > CHANGED * len(one)


class Pictures:
    """Decodes a track's pictures until it ends. `sent` is what they are held against."""

    def __init__(self, sent: Sequence[int] | None = None) -> None:
        self.count = 0
        self.changed = 0
        self.first_at: float | None = None
        self.longest_gap = 0.0
        self.size = (0, 0)
        self._sent = sent
        self._times: deque[float] = deque(maxlen=60)

    @property
    def fps(self) -> float:
        """Of the last two seconds or so."""
        if len(self._times) < 2:
            return 0.0
        return (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-6)

    async def take(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, av.VideoFrame):
                self._note(frame)

    def _note(self, frame: av.VideoFrame) -> None:
        now = time.monotonic()
        if self._times:
            self.longest_gap = max(self.longest_gap, now - self._times[-1])
        self.first_at = self.first_at or now
        self._times.append(now)
        self.count += 1
        self.size = frame.width, frame.height
        if self._sent is not None and differ(brightness(frame), self._sent):
            self.changed += 1
