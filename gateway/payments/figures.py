"""Exact durations as the numbers that JSON and logs show: to look at, never to calculate with.

The one module of this package in which floats may be.
"""

from __future__ import annotations

from fractions import Fraction

from gateway.payments.timebase import NANOSECONDS


def json_seconds(seconds: Fraction | None) -> float | None:
    """Seconds to the millisecond."""
    return None if seconds is None else round(float(seconds), 3)


def seconds_between(earlier: int | None, later: int | None) -> float | None:
    """Seconds from one time in nanoseconds to another, 0 where the second comes first."""
    if later is None or earlier is None:
        return None
    return json_seconds(Fraction(max(0, later - earlier), NANOSECONDS))


def nanoseconds(seconds: float) -> int:
    """A flag's seconds as the integer that payments count in."""
    return round(seconds * NANOSECONDS)
