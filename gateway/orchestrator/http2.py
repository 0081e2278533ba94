"""A budget for the HTTP/2 frames that an orchestrator sends (RFC 9113).

h2 takes about 15 us for a frame, however small, and one PING or SETTINGS in costs one out. Ten megabytes of
them took 10 s of the event loop, so frames are counted before h2 sees them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.aio.pace import Pace

FRAMES = 2_000
"""Limit of frames in a second. A call has about 8, and many streams may ask at once when a round ends."""
BYTES = 4 * 1024 * 1024
"""Limit of bytes in a second: 16 of the largest answers."""
HEADER = 9
"""Bytes of a frame's header, which begins with the length of the rest in three (RFC 9113, 4.1)."""


class FrameBudget:
    """Counts frames in what one connection receives. `clock` is monotonic seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._frames = Pace(FRAMES, clock=clock)
        self._bytes = Pace(BYTES, clock=clock)
        self._header = bytearray()
        self._body_left = 0

    def allows(self, data: bytes) -> bool:
        """Whether all of `data` is within the budget. It looks at no more frames than that has."""
        if not self._bytes.count(len(data)):
            return False
        at = 0
        while at < len(data):
            if self._body_left:
                step = min(self._body_left, len(data) - at)
                self._body_left -= step
                at += step
                continue
            missing = HEADER - len(self._header)
            self._header += data[at : at + missing]
            at += missing
            if len(self._header) == HEADER:
                if not self._frames.count():
                    return False
                self._body_left = int.from_bytes(self._header[:3], "big")
                self._header.clear()
        return True
