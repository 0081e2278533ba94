"""How much of something may be done at once, and how much more each second (a token bucket)."""

from __future__ import annotations

import time
from collections.abc import Callable


class Allowance:
    """`at_once` may be taken at once, and `per_second` more each second, up to that again."""

    __slots__ = ("_at_once", "_clock", "_left", "_per_second", "_then")

    def __init__(
        self, at_once: float, per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._at_once = at_once
        self._per_second = per_second
        self._clock = clock
        self._left = at_once
        self._then = clock()

    def take(self) -> bool:
        """Take one. False where none is left now."""
        now = self._clock()
        self._left = min(self._at_once, self._left + (now - self._then) * self._per_second)
        self._then = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
