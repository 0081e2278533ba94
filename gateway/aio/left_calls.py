"""Calls that end something at a server which did not answer: they are made again until it does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from gateway.aio.tasks import cancel, spawn

MAX_CALLS = 256
"""Limit of calls that are remembered; beyond it the oldest are left to their servers."""
RETRY_EVERY = 5.0
"""Seconds between two attempts."""
KEEP_FOR = 600.0
"""Seconds after which a server has given up by itself what nobody uses."""


class LeftCalls:
    """Calls by a key, each with whether it was answered; `name` is that of their task."""

    def __init__(
        self, name: str, *, retry_every: float = RETRY_EVERY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._retry_every = retry_every
        self._clock = clock
        self._left: dict[str, tuple[Callable[[], Awaitable[bool]], float]] = {}
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._left)

    def add(self, key: str, call: Callable[[], Awaitable[bool]]) -> None:
        """Make this call until it gives True, or its client is closed."""
        self._left[key] = (call, self._clock())
        while len(self._left) > MAX_CALLS:
            del self._left[next(iter(self._left))]
        if self._task is None:
            self._task = spawn(self._run(), name=self._name)

    async def close(self) -> None:
        """Give up what is left."""
        await cancel(self._task)

    async def _run(self) -> None:
        try:
            while self._left:
                await asyncio.sleep(self._retry_every)
                await asyncio.gather(*(self._try(key, *left) for key, left in self._left.items()))
        finally:
            self._task = None

    async def _try(self, key: str, call: Callable[[], Awaitable[bool]], since: float) -> None:
        try:
            answered = await call()
        except RuntimeError:  # aiohttp's, of a client that was closed meanwhile
            answered = True
        if answered or self._clock() - since > KEEP_FOR:
            self._left.pop(key, None)
