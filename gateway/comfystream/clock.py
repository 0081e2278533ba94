"""The times of the pictures that a ComfyStream server sends."""

from __future__ import annotations

from typing_extensions import override

from gateway.media.clock import VideoClock
from gateway.media.frames import TICKS_PER_SECOND

MAX_BEHIND = TICKS_PER_SECOND // 10
"""Ticks that a picture may come later than the earliest one came, by its own time."""
DRIFT = TICKS_PER_SECOND // 1_000
"""Ticks a second that the publisher's clock may differ from ours."""


class ServerClock(VideoClock):
    """90 kHz ticks of pictures that keep step with the wall clock.

    ComfyStream gives each picture that it makes the time of the next one that it received. Where it makes
    fewer than it receives, its times fall ever further behind, and the sound with them; after a pause by
    the pause's length. Such a picture gets the time of its arrival; those of a server that keeps up stay
    as they are.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ahead = float("-inf")
        """Ticks by which the earliest picture's time was ahead of our clock."""
        self._then = 0.0

    @override
    def ticks(self, timestamp: int, now: float) -> int:
        ticks = super().ticks(timestamp, now)
        ours = now * TICKS_PER_SECOND
        earliest = int(ours + self._ahead) - MAX_BEHIND if self._then else ticks
        if ticks >= earliest:
            self._ahead = max(ticks - ours, self._ahead - (now - self._then) * DRIFT)
        self._then = now
        return max(ticks, earliest)
