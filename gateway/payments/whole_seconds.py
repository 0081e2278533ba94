"""When to call a signer that bills whole seconds, rounded up: just before its next one begins."""

from __future__ import annotations

from collections import deque

from gateway.payments.timebase import NANOSECONDS

MEASURED = 32
"""Calls whose time is remembered."""
OFTEN = 80 * NANOSECONDS // 1000
"""A call of a signer that mostly answers in a quarter of this may well take so long."""
SPARE = NANOSECONDS // 100
"""Nanoseconds by which a call may be sent late."""


class WholeSeconds:
    """The seconds of a signer's clock, as far as its answers tell them. Times are monotonic nanoseconds.

    It stamps a payment somewhere between the call and its answer. A call that is sent as long before the end
    of a second as calls take is stamped before that end, wherever within its calls a signer looks at its
    clock.
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
        """How long before the end of a second to call, so that the rounding costs least.

        Each call costs that time, and each that takes longer another second: calls of the past are counted,
        so that a seldom slow one does not make all others early.
        """
        took = sorted(self._took)

        def cost(index: int) -> int:
            slower = len(took) - 1 - index
            return len(took) * took[index] + slower * NANOSECONDS

        allowed = took[min(range(len(took)), key=cost)]
        return min(max(allowed, min(4 * allowed, OFTEN)) + SPARE, NANOSECONDS // 2)
