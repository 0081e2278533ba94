"""How many paid streams each publisher started within the last minute."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable

WINDOW = 60.0
"""Seconds in which starts are counted."""
MAX_PUBLISHERS = 10_000
"""Publishers whose starts are kept: those that started last."""


class TooManyStarts(Exception):
    """A publisher started too many paid streams; it may start another after `retry_after` seconds."""

    def __init__(self, most: int, retry_after: int) -> None:
        super().__init__(f"{most} paid streams were started within a minute, which is the limit")
        self.retry_after = retry_after


class PaidStarts:
    """Counts starts. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._starts: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, publisher: str, most: int | None) -> None:
        """Raise TooManyStarts where the publisher has started `most` within a minute."""
        recent = self._starts.get(publisher)
        if most is None or recent is None:
            return
        now = self._clock()
        while recent and recent[0] <= now - WINDOW:
            recent.popleft()
        if len(recent) >= most:
            raise TooManyStarts(most, math.ceil(recent[-most] + WINDOW - now))

    def count(self, publisher: str, most: int | None) -> None:
        """Count one more start. Raises TooManyStarts instead, where `check` does."""
        self.check(publisher, most)
        if most is None:
            return
        recent = self._starts[publisher] = self._starts.pop(publisher, deque())
        recent.append(self._clock())
        if len(self._starts) > MAX_PUBLISHERS:
            self._starts.popitem(last=False)
