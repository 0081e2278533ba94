"""How tests wait for what nobody announces, and how long they let things take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

DEADLINE = 30.0
"""Seconds after which something is taken for never coming; nothing is measured by it."""
SLACK = 5
"""How many times longer than it should something may take in a test: the figures are `scripts/bench`'s."""


async def eventually(
    condition: Callable[[], Any], *, deadline: float = DEADLINE, every: float = 0.05, what: str = ""
) -> Any:
    """Wait until `condition` (plain or a coroutine function) gives something true, and give it back."""
    until = time.monotonic() + deadline
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < until, f"waited {deadline:.0f} s for {what or condition}"
        await asyncio.sleep(every)
