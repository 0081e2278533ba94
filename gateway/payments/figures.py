"""Exact durations as the numbers that JSON and logs show: to look at, never to calculate with.

The one module of this package in which floats may be.
"""

from __future__ import annotations

from fractions import Fraction

from gateway.payments.timebase import NANOSECONDS


def json_seconds(seconds: Fraction | None) -> float | None:
    """Seconds to the millisecond."""
    return None if seconds is None else round(float(seconds), 3)


def nanoseconds(seconds: float) -> int:
    """A flag's seconds as the integer that payments count in."""
    return round(seconds * NANOSECONDS)
