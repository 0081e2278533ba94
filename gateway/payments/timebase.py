"""The clock that payments are timed by."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction

NANOSECONDS = 10**9
"""Nanoseconds in a second."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One time by both clocks, in nanoseconds: since 1970, and as payments are timed."""

    wall_ns: int
    monotonic_ns: int


def now_ns() -> int:
    """Monotonic nanoseconds, time in suspend included.

    A signer bills by its own clock, so the time that this machine slept counts too.
    """
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def seconds_between(earlier: int | None, later: int | None) -> Fraction | None:
    """Exact seconds from one time to another, 0 where the second comes first; None where one is unknown."""
    if later is None or earlier is None:
        return None
    return Fraction(max(0, later - earlier), NANOSECONDS)
