"""A paid job whose publisher is gone, while it waits for the same one to come back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from gateway.reason import Ended, EndReason

RESUMABLE = frozenset({EndReason.PUBLISHER_LEFT, EndReason.DELETED, EndReason.INGEST_TIMEOUT})
"""Why a publisher may be gone whose job is held."""


class HeldJob:
    """How long a paid job waits, while nothing is signed for it.

    `left` says why its publisher is gone. `timeout` is how long nobody may publish, and `credit` how long the
    job can be without pictures, whoever is about to publish: both in seconds from now.
    """

    def __init__(
        self, left: Ended, *, timeout: float, credit: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.left = left
        self._timeout = timeout
        self._clock = clock
        self._until = clock() + timeout
        self._paid_until = clock() + credit

    def publisher_came(self) -> None:
        """Somebody publishes again: its first key frame is to come."""
        self._until = math.inf

    def publisher_left(self) -> None:
        """It is gone again, before its first key frame."""
        self._until = self._clock() + self._timeout

    def check(self) -> None:
        """Raises Ended once it may wait no longer, with the reason that the publisher left for."""
        now = self._clock()
        if now >= self._paid_until:
            raise self.end("its credit would not cover a longer pause")
        if now >= self._until:
            raise self.end(f"it did not come back within {self._timeout:g} s")

    def end(self, why: str) -> Ended:
        """The end of a stream whose job waits no longer, for the reason that the publisher left for."""
        return Ended(self.left.reason, f"{self.left.detail}; {why}")
