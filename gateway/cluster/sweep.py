"""Removes the keys that nodes left which are gone, some time after anybody may want them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import structlog

from gateway.cluster.bucket import Bucket, BucketEntry
from gateway.cluster.errors import ClusterError, KeyTaken
from gateway.cluster.ownership import OwnerKey
from gateway.cluster.presence import Life, NodeView
from gateway.cluster.tally import BadTally, Tally

log = structlog.get_logger("cluster")

INTERVAL = 60.0
"""Seconds between two passes."""
PAUSE = 0.01
"""Seconds between two keys: a pass over 60,000 takes ten minutes, and a hundred requests a second."""
KEEP_LEFT = 600.0
"""Seconds for which the name of a stream that a node left is kept at least: it leads to the paid job."""


class Sweep:
    """`run` until cancelled; `once` is a pass. `mine` says whether it is for this node to do."""

    def __init__(
        self,
        names: Bucket,
        counts: Bucket,
        view: NodeView,
        mine: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._names = names
        self._counts = counts
        self._view = view
        self._mine = mine
        self._clock = clock
        self._sleep = sleep
        self._left: dict[int, float] = {}
        """When a name was found first whose owner is gone, by its key's revision."""

    async def run(self, keep: float) -> None:
        """`keep` is for how many seconds a paid job may wait for its publisher."""
        while True:
            try:
                removed = await self.once(max(keep, KEEP_LEFT))
            except ClusterError as error:
                log.info("keys of nodes that are gone cannot be removed now", detail=str(error))
            else:
                if removed:
                    log.info("keys of nodes that are gone were removed", keys=removed)
            await self._sleep(INTERVAL)

    async def once(self, keep: float) -> int:
        """How many keys were removed. Raises ClusterError."""
        left: dict[int, float] = {}
        removed = 0
        async for _, entry in self._entries(self._names):
            if not self._is_left(OwnerKey.read(entry.value, entry.revision)):
                continue
            since = left[entry.revision] = self._left.get(entry.revision, self._clock())
            if self._clock() - since >= keep:
                removed += await self._names.remove(entry.revision)
        self._left = left
        async for key, entry in self._entries(self._counts):
            removed += await self._sweep_count(key, entry)
        return removed

    async def _entries(self, bucket: Bucket) -> AsyncIterator[tuple[str, BucketEntry]]:
        for key in await bucket.keys() if self._mine() else ():
            if not self._mine():
                return
            entry = await bucket.get(key)
            if entry is not None:
                yield key, entry
            await self._sleep(PAUSE)

    def _is_left(self, key: OwnerKey) -> bool:
        return key.left or (key.owner is not None and self._view.judge(key.owner) is Life.DEAD)

    async def _sweep_count(self, key: str, entry: BucketEntry) -> bool:
        """Take those that are dead out of a key; true where nobody is left in it."""
        try:
            tally = Tally.read(entry.value)
        except BadTally:
            return False  # of a later release: it knows what it means
        living = tally.living(self._view.judge)
        if not living.counts:
            return await self._counts.remove(entry.revision)
        if living != tally:
            with suppress(KeyTaken):  # by a node that took them out, too
                await self._counts.update(key, living.value(), entry.revision)
        return False
