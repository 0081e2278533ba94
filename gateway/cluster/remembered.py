"""Has other nodes find what this node knows of streams that ended here a short while ago."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial

from gateway.aio.tasks import spawn
from gateway.cluster.bus import Bus, BusMessage, BusSubscription, Handler
from gateway.cluster.errors import ClusterError

MAX_NAMES = 2000
"""Names that are subscribed to; the oldest is dropped first."""
NEWER = "Ended-At"
"""Header of a message that says that a stream of this name has ended at another node since."""


class Remembered:
    """`serve` gets the requests about them, `forget` each name of which another node knows a newer one."""

    def __init__(self, bus: Bus, own: str, *, serve: Handler, forget: Callable[[str], None]) -> None:
        self._bus = bus
        self._own = own
        self._serve = serve
        self._forget = forget
        self._kept: dict[str, BusSubscription] = {}

    def add(self, names: Collection[str], seconds: float) -> None:
        """A stream of these names ended here; its status is known for so long."""
        for name in set(names):
            spawn(self._add(name, seconds), name="cluster remember", expected=(ClusterError,))

    async def close(self) -> None:
        kept, self._kept = list(self._kept.values()), {}
        await asyncio.gather(*(subscription.close() for subscription in kept))

    async def _add(self, name: str, seconds: float) -> None:
        self._drop(name)
        subject = self._bus.subjects.ended(name)
        await self._bus.publish(subject, headers={NEWER: self._own})
        subscription = await self._bus.subscribe(subject, partial(self._take, name))
        self._kept[name] = subscription
        asyncio.get_running_loop().call_later(seconds, self._drop, name, subscription)
        if len(self._kept) > MAX_NAMES:
            self._drop(next(iter(self._kept)))

    def _take(self, name: str, message: BusMessage) -> None:
        if NEWER not in message.headers:
            self._serve(message)
        elif message.headers[NEWER] != self._own:
            self._drop(name)
            self._forget(name)

    def _drop(self, name: str, only: BusSubscription | None = None) -> None:
        subscription = self._kept.get(name)
        if subscription is not None and only in (None, subscription):
            del self._kept[name]
            spawn(subscription.close(), name="cluster forget")
