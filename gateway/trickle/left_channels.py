"""Channels whose server did not answer when they were closed: they are deleted once it does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiohttp
import structlog

from gateway.aio.tasks import cancel, spawn
from gateway.trickle.publisher import delete_channel

MAX_CHANNELS = 256
"""Limit of channels that are remembered; beyond it the oldest are left to their servers."""
RETRY_EVERY = 5.0
"""Seconds between two attempts."""
KEEP_FOR = 600.0
"""Seconds after which a server has swept an idle channel by itself."""


class LeftChannels:
    """Deletes what a hung server still holds: a job there that nobody feeds, and its room."""

    def __init__(
        self, *, retry_every: float = RETRY_EVERY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._retry_every = retry_every
        self._clock = clock
        self._left: dict[str, tuple[aiohttp.ClientSession, float]] = {}
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._left)

    def add(self, http: aiohttp.ClientSession, url: str) -> None:
        """Try to delete this channel until its server answers."""
        self._left[url] = (http, self._clock())
        while len(self._left) > MAX_CHANNELS:
            del self._left[next(iter(self._left))]
        if self._task is None:
            self._task = spawn(self._run(), name="left-channels")

    async def close(self) -> None:
        """Give up what is left."""
        await cancel(self._task)

    async def _run(self) -> None:
        while self._left:
            await asyncio.sleep(self._retry_every)
            await asyncio.gather(*(self._try(url, *left) for url, left in self._left.items()))
        self._task = None

    async def _try(self, url: str, http: aiohttp.ClientSession, since: float) -> None:
        answered = await delete_channel(http, url)
        if answered:
            structlog.get_logger("trickle").info("left channel deleted", channel=url)
        if answered or self._clock() - since > KEEP_FOR:
            self._left.pop(url, None)
