"""Counts how often something happens against a limit for each second."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """A limit of `limit` units in each second; `clock` is monotonic seconds.

    Seconds begin with the first unit after the last one ended, so up to twice the limit may come within one.
    """

    def __init__(self, limit: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._clock = clock
        self._begun = float("-inf")
        self._counted = 0

    @property
    def left(self) -> int:
        """Units that may still come in this second."""
        if self._clock() - self._begun >= 1.0:
            return self.limit
        return self.limit - self._counted

    @property
    def rest(self) -> float:
        """Seconds until this second is over; 0 where it is."""
        return max(0.0, self._begun + 1.0 - self._clock())

    def count(self, units: int = 1) -> bool:
        """Whether these units are within the limit; counted in either case."""
        now = self._clock()
        if now - self._begun >= 1.0:
            self._begun, self._counted = now, 0
        self._counted += units
        return self._counted <= self.limit
