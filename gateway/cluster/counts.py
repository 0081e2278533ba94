"""Limits that all nodes keep together: a key for each, with what every node has under it.

A node writes that it has more before it has, and that it has less afterwards: together they are never above a
maximum. Who finds the key changed meanwhile looks again; those that wait at one node share a write.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from gateway.aio.tasks import cancel, spawn
from gateway.cluster.bucket import Bucket
from gateway.cluster.bus import Bus
from gateway.cluster.errors import ClusterAway, ClusterError, KeyTaken
from gateway.cluster.presence import DEAD_AFTER, Identity, NodeView
from gateway.cluster.tally import BadTally, Tally, granted, tally_key
from gateway.stream.admission import NotAdmitted
from gateway.stream.quotas import CounterKey

log = structlog.get_logger("cluster")

LOOK_AGAIN = 0.2
"""Seconds between two looks at a full limit while one of its nodes may be dead."""
MAX_WAIT = DEAD_AFTER + 1.5
"""Seconds after which a limit counts as reached though one of its nodes may be dead."""
COLLISION_PAUSE = 0.01
"""Seconds that a node waits at most before it tries again where another one was faster."""
TRY_AGAIN = 0.5
"""Seconds between two tries to give back while NATS does not serve."""
SETTLE_TIMEOUT = 1.0


@dataclass(eq=False)
class _Own:
    """What this node has under one limit."""

    count: int = 0
    """In truth, those among them that wait to be counted."""
    held: int = 0
    """Those that do not wait."""
    written: int = 0
    """By its key."""
    others: int = 0
    """What the others had when it was written."""
    unsure: bool = False
    """Whether the key may say something else: a write failed, or NATS was away."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    agreeing: asyncio.Task[None] | None = None

    @property
    def agrees(self) -> bool:
        return not self.unsure and self.held <= self.written <= self.count


class ClusterCounts:
    """`SharedCounts` in keys of `bucket`."""

    def __init__(
        self,
        bus: Bus,
        bucket: Bucket,
        view: NodeView,
        own: Identity,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._bus = bus
        self._bucket = bucket
        self._view = view
        self._identity = own
        self._clock = clock
        self._sleep = sleep
        self._counts: dict[CounterKey, _Own] = {}
        bus.watch(self._changed)

    async def hold(self, key: CounterKey, count: int, maximum: int) -> bool:
        """Have this node counted with at least `count`; false where that is above the maximum.

        Raises NotAdmitted where NATS is away.
        """
        own = self._counts.setdefault(key, _Own())
        own.count = max(own.count, count)
        if count <= own.held:
            return True  # it takes the place of another
        until = self._clock() + MAX_WAIT
        try:
            while True:
                async with own.lock:
                    tally = await self._raise(key, own, count, maximum, until)
                if tally is None:
                    own.held = max(own.held, min(count, own.count))
                    return True
                if not tally.is_unsure(self._view.judge) or self._clock() > until:
                    return False
                await self._sleep(LOOK_AGAIN)
        except (ClusterError, BadTally) as error:
            detail = f"what other nodes have of {key[0]} cannot be known now: {error}"
            raise NotAdmitted("cluster_away", detail) from error

    def lower(self, key: CounterKey, count: int) -> None:
        """This node has only `count` by now."""
        own = self._counts.get(key)
        if own is not None:
            own.count = count
            own.held = min(own.held, count)
            self._agree_soon(key, own)

    async def settle(self) -> None:
        """Wait until others see what this node gave back; not for long where NATS does not serve."""
        agreeing = [own.agreeing for own in self._counts.values() if own.agreeing is not None]
        if agreeing and self._bus.connected:
            await asyncio.wait(agreeing, timeout=SETTLE_TIMEOUT)

    async def close(self) -> None:
        """Give everything back."""
        for key in list(self._counts):
            self.lower(key, 0)
        await self.settle()
        await cancel(*(own.agreeing for own in self._counts.values()))

    async def _raise(
        self, key: CounterKey, own: _Own, count: int, maximum: int, until: float
    ) -> Tally | None:
        """Write that this node has `count`, and what others here wait for.

        Gives what the key says where that is above the maximum, else None.
        """
        while not self._may_use(own, min(count, own.count), maximum):
            tally, revision = await self._read(key)
            needed = min(count, own.count)  # others may have left meanwhile
            number = granted(tally, self._identity, needed=needed, wanted=own.count, maximum=maximum)
            if number is None:
                return tally
            if not await self._write(key, own, tally.having(self._identity, number), revision):
                if self._clock() > until:
                    raise ClusterAway("too many nodes change it at once")
                await self._sleep(random.uniform(0, COLLISION_PAUSE))
        return None

    def _may_use(self, own: _Own, count: int, maximum: int) -> bool:
        """Whether the key leaves room for `count` without another look."""
        sure = self._bus.connected and not own.unsure
        return sure and count <= own.written <= maximum - own.others

    def _agree_soon(self, key: CounterKey, own: _Own) -> None:
        if own.agreeing is None or own.agreeing.done():
            own.agreeing = spawn(self._agree(key, own), name="cluster count")

    async def _agree(self, key: CounterKey, own: _Own) -> None:
        """Have the key say what this node has, whatever the limit, as soon as NATS serves."""
        while True:
            try:
                async with own.lock:
                    while not own.agrees:
                        tally, revision = await self._read(key)
                        number = min(max(tally.of(self._identity), own.held), own.count)
                        await self._write(key, own, tally.having(self._identity, number), revision)
                    if own.count == 0 and self._counts.get(key) is own:
                        del self._counts[key]
                return
            except ClusterError:
                await self._sleep(TRY_AGAIN)
            except BadTally as error:
                log.warning("a shared limit cannot be counted", limit=key[0], detail=str(error))
                return

    async def _read(self, key: CounterKey) -> tuple[Tally, int]:
        """What the key says of nodes that live, and its revision; 0 where there is no key."""
        entry = await self._bucket.get(tally_key(*key))
        if entry is None:
            return Tally(key[0]), 0
        return Tally.read(entry.value).living(self._view.judge), entry.revision

    async def _write(self, key: CounterKey, own: _Own, tally: Tally, revision: int) -> bool:
        """False where another node was faster."""
        own.unsure = True
        try:
            if tally.counts:
                await self._bucket.update(tally_key(*key), tally.value(), revision)
            elif revision and not await self._bucket.remove(revision):
                return False
        except KeyTaken:
            return False
        own.written, own.others = tally.of(self._identity), tally.others(self._identity)
        own.unsure = False
        return True

    def _changed(self, connected: bool) -> None:
        """After NATS was away: others may have thought that this node is dead."""
        if connected:
            for key, own in list(self._counts.items()):
                own.unsure = True
                self._agree_soon(key, own)
