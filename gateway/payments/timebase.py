"""The clock that payments are timed by."""

from __future__ import annotations

import time

NANOSECONDS = 10**9
"""Nanoseconds in a second."""


def now_ns() -> int:
    """Monotonic nanoseconds, time in suspend included.

    A signer bills by its own clock, so the time that this machine slept counts too.
    """
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
