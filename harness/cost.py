"""What one call costs the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable

TURN = 0.05
"""Seconds that one input of an outsider may take the event loop at most."""


def cpu_seconds(call: Callable[[], object], *, times: int = 3) -> float:
    """CPU time of this thread for one call, the least of `times`: that of other programs does not count, a
    run of the garbage collector hardly."""
    least = float("inf")
    for _ in range(times):
        begun = time.thread_time()
        call()
        least = min(least, time.thread_time() - begun)
    return least
