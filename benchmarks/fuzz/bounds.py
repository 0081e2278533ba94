"""What one input may take."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable
from pathlib import Path

MAX_SECONDS = 0.1
"""Seconds of processor time: the event loop's 50 ms, on a machine half as fast."""
MAX_GROWTH = 64 * 1024 * 1024
"""Bytes by which memory may be larger after an input than before."""
TRIES = 3
"""An input is slow where the fastest of so many tries is."""
PAGE = resource.getpagesize()


class Costly(Exception):
    """An input takes too long, or too much memory."""


def measured(check: Callable[[bytes], None], data: bytes) -> float:
    """Seconds of processor time that `check` takes. Raises Costly, and what `check` raises."""
    before = resident()
    took = _timed(check, data)
    if took > MAX_SECONDS:
        gc.collect()
        took = min(took, *(_timed(check, data) for _ in range(TRIES - 1)))
        if took > MAX_SECONDS:
            raise Costly(f"{len(data)} bytes take {1000 * took:.0f} ms")
    if resident() - before > MAX_GROWTH:
        gc.collect()
        grown = resident() - before
        if grown > MAX_GROWTH:
            raise Costly(f"{len(data)} bytes leave {grown >> 20} MiB behind")
    return took


def _timed(check: Callable[[bytes], None], data: bytes) -> float:
    before = time.process_time()
    check(data)
    return time.process_time() - before


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
