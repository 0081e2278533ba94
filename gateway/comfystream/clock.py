"""The times of the pictures that a ComfyStream server sends."""

from __future__ import annotations

from typing_extensions import override

from gateway.media.clock import VideoClock
from gateway.media.frames import TICKS_PER_SECOND

MAX_BEHIND = TICKS_PER_SECOND // 10
"""Ticks that a picture may come later than the earliest one came, by its own time."""
PAUSE = TICKS_PER_SECOND // 2
"""Ticks that a picture is behind after a pause, and not since its server is slow."""
DRIFT = TICKS_PER_SECOND // 1_000
"""Ticks a second that the publisher's clock may differ from ours."""


class ServerClock(VideoClock):
    """90 kHz ticks of pictures that keep step with the wall clock.

    ComfyStream gives each picture that it makes the time of the next one that it received. Where it makes
    fewer than it receives, its times fall ever further behind, and the sound with them; after a pause by
    the pause's length. Such a picture is moved to the time of its arrival, and those after it by as much;
    those of a server that keeps up stay as they are.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ahead = float("-inf")
        """Ticks by which the earliest picture's time was ahead of our clock."""
        self._then = 0.0
        self._moved = 0
        """Ticks by which pictures are moved."""

    @override
    def ticks(self, timestamp: int, now: float) -> int:
        ticks = super().ticks(timestamp, now) + self._moved
        ours = now * TICKS_PER_SECOND
        behind = int(ours + self._ahead) - ticks if self._then else 0
        if behind <= MAX_BEHIND:
            self._ahead = max(ticks - ours, self._ahead - (now - self._then) * DRIFT)
            move = 0
        else:
            # a slow server falls behind step by step, and its pictures arrive as evenly as they can
            move = behind if behind > PAUSE else behind - MAX_BEHIND
        self._then = now
        self._moved += move
        return ticks + move

    @override
    def at(self, timestamp: int) -> int:
        return super().at(timestamp) + self._moved
