"""When to call a signer that bills whole seconds, rounded up: just before its next one begins."""

from __future__ import annotations

from collections import deque

from gateway.payments.timebase import NANOSECONDS

MEASURED = 32
"""Calls whose time is remembered."""
SPARE = NANOSECONDS // 100
"""Nanoseconds by which a call may be sent late."""


class WholeSeconds:
    """The seconds of a signer's clock, as far as its answers tell them. Times are monotonic nanoseconds.

    It stamps a payment somewhere between the call and its answer. A call that is sent as long before the end
    of a second as the longest one took is stamped before that end, wherever within its calls a signer looks
    at its clock.
    """

    def __init__(self) -> None:
        self._answered_at: int | None = None
        self._took: deque[int] = deque(maxlen=MEASURED)

    def answered(self, called_at: int, now: int) -> None:
        """The signer made a payment: the seconds count from here."""
        self._answered_at = now
        self._took.append(max(0, now - called_at))

    def next_call(self, earliest: int) -> int:
        """The first good time for a call that is not before `earliest`."""
        if self._answered_at is None:
            return earliest
        first = self._answered_at - self._margin()
        return earliest + (first - earliest) % NANOSECONDS

    def _margin(self) -> int:
        longest = max(self._took)
        unknown = longest // 4 if len(self._took) < MEASURED // 4 else 0
        return min(longest + unknown + SPARE, NANOSECONDS // 2)
