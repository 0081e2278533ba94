"""A stream's events for readers at other nodes: each node sends those of its streams over NATS.

At most once, as between the gateway and a reader: who was away looks at the stream's status.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque

import structlog

from gateway.aio.tasks import cancel, spawn
from gateway.cluster.bus import Bus, BusMessage, BusSubscription
from gateway.cluster.errors import ClusterError
from gateway.telemetry.events import EventHub

log = structlog.get_logger("cluster")

MAX_WAITING = 1000
"""Messages that wait to be sent: later ones are dropped."""
MAX_BYTES = 512 * 1024
"""Limit of one: what a worker says is at most half as long."""
NODE = "Node"
"""Header with the tag of the node that sent it."""


class SharedEvents:
    """The hub's `RemoteEvents`. It sends from its making on, until `close`."""

    def __init__(self, bus: Bus, tag: str, hub: EventHub) -> None:
        self._bus = bus
        self._tag = tag
        self._hub = hub
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._came = asyncio.Event()
        self._readers: Counter[str] = Counter()
        self._subscriptions: dict[str, BusSubscription] = {}
        self._changes = asyncio.Lock()
        self._sending = spawn(self._send(), name="cluster events")

    def told(self, stream: str, message: bytes) -> None:
        if len(self._waiting) < MAX_WAITING and len(message) <= MAX_BYTES:
            self._waiting.append((stream, message))
            self._came.set()

    async def watch(self, stream: str) -> None:
        self._readers[stream] += 1
        await self._follow(stream)

    async def unwatch(self, stream: str) -> None:
        self._readers[stream] -= 1
        await self._follow(stream)

    @property
    def waiting(self) -> int:
        """Messages that are yet to be sent."""
        return len(self._waiting)

    async def close(self) -> None:
        await cancel(self._sending)

    async def _follow(self, stream: str) -> None:
        """Be subscribed exactly while somebody reads."""
        async with self._changes:
            if self._readers[stream] and stream not in self._subscriptions:
                subject = self._bus.subjects.events(stream)

                def take(message: BusMessage) -> None:
                    if message.headers.get(NODE) != self._tag:
                        self._hub.of_other_node(stream, message.data)

                self._subscriptions[stream] = await self._bus.subscribe(subject, take)
            elif not self._readers[stream]:
                del self._readers[stream]
                subscription = self._subscriptions.pop(stream, None)
                if subscription is not None:
                    await subscription.close()

    async def _send(self) -> None:
        while True:
            await self._came.wait()
            self._came.clear()
            while self._waiting:
                stream, message = self._waiting.popleft()
                try:
                    await self._bus.publish(
                        self._bus.subjects.events(stream), message, headers={NODE: self._tag}
                    )
                except ClusterError as error:
                    log.debug("event not sent to other nodes", stream=stream, error=str(error))
