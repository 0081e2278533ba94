"""Channels whose server did not answer when they were closed: they are deleted once it does."""

from __future__ import annotations

from functools import partial

import aiohttp
import structlog

from gateway.aio.left_calls import RETRY_EVERY, LeftCalls
from gateway.trickle.publisher import delete_channel


class LeftChannels:
    """Deletes what a hung server still holds: a job there that nobody feeds, and its room."""

    def __init__(self, *, retry_every: float = RETRY_EVERY) -> None:
        self._calls = LeftCalls("left-channels", retry_every=retry_every)

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, http: aiohttp.ClientSession, url: str) -> None:
        """Try to delete this channel until its server answers."""
        self._calls.add(url, partial(_delete, http, url))

    async def close(self) -> None:
        """Give up what is left."""
        await self._calls.close()


async def _delete(http: aiohttp.ClientSession, url: str) -> bool:
    answered = await delete_channel(http, url)
    if answered:
        structlog.get_logger("trickle").info("left channel deleted", channel=url)
    return answered
