"""How many paid streams each publisher started within the last minute."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
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
        self._starts: OrderedDict[str, dict[str, float]] = OrderedDict()
        """By publisher: when each publish started, by its request id, the oldest first."""

    def check(self, publisher: str, most: int | None) -> None:
        """Raise TooManyStarts where the publisher has started `most` within a minute."""
        if most is None or publisher not in self._starts:
            return
        now = self._clock()
        recent = {one: at for one, at in self._starts[publisher].items() if at > now - WINDOW}
        self._starts[publisher] = recent
        if len(recent) >= most:
            raise TooManyStarts(most, math.ceil(list(recent.values())[-most] + WINDOW - now))

    def count(self, publisher: str, request_id: str, most: int | None) -> None:
        """Count one more start. Raises TooManyStarts instead, where `check` does."""
        self.check(publisher, most)
        if most is None:
            return
        recent = self._starts[publisher] = self._starts.pop(publisher, {})
        recent[request_id] = self._clock()
        if len(self._starts) > MAX_PUBLISHERS:
            self._starts.popitem(last=False)

    def give_back(self, publisher: str, request_id: str) -> None:
        """Forget a start for which nothing was paid; none where it was not counted."""
        self._starts.get(publisher, {}).pop(request_id, None)
