"""The clock that payments are timed by."""

from __future__ import annotations

import time

NANOSECONDS = 10**9
"""Nanoseconds in a second."""


def now_ns() -> int:
    """Nanoseconds that only go forward: whatever is done to the wall clock, and while the machine sleeps.

    A signer bills the time that passed by its own clock, so the time that this machine slept must count.
    """
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
