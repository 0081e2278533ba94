"""Rates of events and bytes over a short window."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

MAX_EVENTS = 2_000
"""Limit of remembered events; above this rate the window gets shorter."""


class RateMeter:
    """Counts events and their bytes over the last `window` seconds, for people to look at."""

    def __init__(self, *, window: float = 2.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window
        self._clock = clock
        self._events: deque[tuple[float, int]] = deque(maxlen=MAX_EVENTS)

    def add(self, size: int) -> None:
        """One event of `size` bytes happened now."""
        self._events.append((self._clock(), size))

    @property
    def per_second(self) -> float:
        """Events a second; 0 where too few came within the window to tell."""
        return (len(self._events) - 1) / span if (span := self._span()) else 0.0

    @property
    def bits_per_second(self) -> int:
        """Bits a second; 0 where too few events came within the window to tell."""
        if not (span := self._span()):
            return 0
        first = self._events[0][1]
        return round((sum(size for _, size in self._events) - first) * 8 / span)

    def _span(self) -> float:
        """Seconds from the first event within the window to the last, or to now once they are overdue."""
        now = self._clock()
        while self._events and now - self._events[0][0] > self._window:
            self._events.popleft()
        if len(self._events) < 2:
            return 0.0
        first, last = self._events[0][0], self._events[-1][0]
        mean = (last - first) / (len(self._events) - 1)
        return max(last - first, now - first - 2 * mean)
