"""Which stream's events are delivered next. Plain logic; times are monotonic seconds.

A stream's events are delivered one after the other: while its first one fails, the others wait with it, and
other streams go on.
"""

from __future__ import annotations

import heapq
from collections import deque

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 600.0


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 1, 2, 4 .. 600."""
    return min(FIRST_BACKOFF * 2.0 ** min(failures - 1, 16), LONGEST_BACKOFF)


class Lanes:
    """Streams with events that wait, each in one place: ready, under way, or resting after a failure."""

    def __init__(self) -> None:
        self._ready: deque[str] = deque()
        self._queued: set[str] = set()
        self._busy: set[str] = set()
        self._again: set[str] = set()
        """Busy ones that got another event meanwhile."""
        self._failures: dict[str, int] = {}
        self._resting: list[tuple[float, str]] = []
        self._rests: set[str] = set()

    def add(self, stream: str) -> None:
        """An event of this stream waits."""
        if stream in self._busy:
            self._again.add(stream)
        elif stream not in self._queued and stream not in self._rests:
            self._queued.add(stream)
            self._ready.append(stream)

    def take(self, now: float) -> str | None:
        """A stream to deliver the first event of, until `emptied` or `failed`; None where there is none."""
        while self._resting and self._resting[0][0] <= now:
            _, stream = heapq.heappop(self._resting)
            self._rests.discard(stream)
            self.add(stream)
        if not self._ready:
            return None
        stream = self._ready.popleft()
        self._queued.discard(stream)
        self._busy.add(stream)
        return stream

    def delivered(self, stream: str) -> None:
        """One of its events was delivered."""
        self._failures.pop(stream, None)

    def emptied(self, stream: str) -> None:
        """None of its events wait."""
        self._busy.discard(stream)
        if stream in self._again:
            self._again.discard(stream)
            self.add(stream)

    def failed(self, stream: str, now: float) -> float:
        """Its first event was not delivered; gives for how many seconds it rests."""
        self._busy.discard(stream)
        self._again.discard(stream)
        failures = self._failures[stream] = self._failures.get(stream, 0) + 1
        rest = backoff(failures)
        heapq.heappush(self._resting, (now + rest, stream))
        self._rests.add(stream)
        return rest

    def wait(self, now: float) -> float | None:
        """Seconds until a stream's rest is over; None where none rests."""
        return max(0.0, self._resting[0][0] - now) if self._resting else None
