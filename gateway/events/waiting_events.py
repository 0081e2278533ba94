"""Events that wait to be written: a task writes them as they come, those that come meanwhile together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from gateway.aio.tasks import cancel, spawn

MAX_WAITING = 10_000
"""Events in memory while nothing can be written: later ones are dropped."""
RETRY = 1.0
"""Seconds until what could not be written is tried again."""
LAST_WRITE_TIMEOUT = 5.0
"""Seconds for what is left to write when the gateway stops."""
T = TypeVar("T")


class WaitingEvents(Generic[T]):
    """`write` gets the oldest, `batch` at most, and gives whether they are done with; else they stay.

    Writes from its making on; `close` writes what is left.
    """

    def __init__(
        self, write: Callable[[list[T]], Awaitable[bool]], *, name: str, batch: int = MAX_WAITING
    ) -> None:
        self._write = write
        self._batch = batch
        self._waiting: deque[T] = deque()
        self._came = asyncio.Event()
        self._closing = False
        self._writing = spawn(self._run(), name=name)

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: T) -> bool:
        """Whether it is taken; false where too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting.append(event)
        self._came.set()
        return True

    async def close(self) -> None:
        """Write what is left; what is not written in time still counts in `len`."""
        self._closing = True
        self._came.set()
        try:
            async with asyncio.timeout(LAST_WRITE_TIMEOUT):
                await asyncio.shield(self._writing)
        except TimeoutError:
            await cancel(self._writing)

    async def _run(self) -> None:
        while not self._closing or self._waiting:
            if not self._waiting:
                await self._came.wait()
                self._came.clear()
                continue
            batch = [self._waiting[place] for place in range(min(self._batch, len(self._waiting)))]
            if not await self._write(batch):
                await asyncio.sleep(RETRY)
                continue
            for _ in batch:
                self._waiting.popleft()
