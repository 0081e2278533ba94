"""Waiting with a time limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

DEADLINE = 30.0
"""Seconds, the time limit for anything that is expected: generous, nothing is measured by it."""
SLACK = 5
"""Tests allow this many times a target time; `scripts/bench` measures the time itself."""

T = TypeVar("T")


async def within(awaited: Awaitable[T], *, deadline: float = DEADLINE, what: str = "") -> T:
    """What `awaited` gives. To be used for all that depends on code which is not the test's own.

    Fails where it takes longer than `deadline` seconds.
    """
    try:
        async with asyncio.timeout(deadline) as limit:
            return await awaited
    except TimeoutError:
        if not limit.expired():
            raise
        raise AssertionError(f"waited {deadline:g} s for {what or awaited}") from None


async def eventually(
    condition: Callable[[], Any], *, deadline: float = DEADLINE, every: float = 0.05, what: str = ""
) -> Any:
    """Wait until `condition` (plain or a coroutine function) gives something true, and give it back."""
    until = time.monotonic() + deadline
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await within(value, deadline=deadline, what=what or str(condition))
        if value:
            return value
        assert time.monotonic() < until, f"waited {deadline:g} s for {what or condition}"
        await asyncio.sleep(every)
