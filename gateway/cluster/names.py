"""The names and ids of this node's streams, held as keys that all nodes see: at most one node holds each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from gateway.aio.tasks import cancel, spawn
from gateway.cluster.bucket import Bucket
from gateway.cluster.bus import Bus, BusSubscription, Handler
from gateway.cluster.errors import ClusterAway, ClusterError, KeyTaken, NobodyAnswers
from gateway.cluster.ownership import OwnerKey, OwnerStep, next_step, value_of
from gateway.cluster.presence import DEAD_AFTER, Identity, Life, NodeView
from gateway.cluster.remembered import Remembered
from gateway.cluster.subjects import encode
from gateway.stream.admission import NotAdmitted
from gateway.stream.claims import NameTaken

log = structlog.get_logger("cluster")

LOOK_AGAIN = 0.1
"""Seconds between two looks at a key whose owner may be dead."""
CHECK_AGAIN = 0.5
"""Seconds after which a check of this node's names is tried again that NATS or JetStream did not serve."""
PROBE_TIMEOUT = 0.4
MAX_WAIT = DEAD_AFTER + 1.5
"""Seconds after which a name counts as taken whose owner neither answers nor is known to be dead."""
PROBE = b""


@dataclass(eq=False)
class _Held:
    holders: int = 0
    revision: int | None = None
    """Of the key that this node wrote; None: it is not written yet, or lost."""
    subscription: BusSubscription | None = None
    left: bool = False
    """Whether its key is to say, when it is given back, that a stream was left behind."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class ClusterNames:
    """Claims names by keys of `bucket`, and subscribes to the subjects of those that it holds.

    `serve` gets the requests on them, `lost` is called with a name that another node has taken meanwhile,
    `beat` has this node's beat sent now, which tells sooner who is dead. `before_release` gives back what
    goes with a name: who gets the name next needs it.
    """

    def __init__(
        self,
        bus: Bus,
        bucket: Bucket,
        view: NodeView,
        own: Identity,
        *,
        serve: Handler,
        lost: Callable[[str], None],
        remembered: Remembered | None = None,
        beat: Callable[[], None] = lambda: None,
        before_release: Callable[[], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._bus = bus
        self._bucket = bucket
        self._view = view
        self._own = own
        self._serve = serve
        self._lost = lost
        self._remembered = remembered
        self._beat = beat
        self._before_release = before_release
        self._clock = clock
        self._sleep = sleep
        self._held: dict[str, _Held] = {}
        self._left_behind: set[int] = set()
        """Revisions of keys that could not be removed."""
        self._check: asyncio.Task[None] | None = None
        bus.watch(self._changed)

    async def claim(self, names: Collection[str]) -> bool:
        """Hold these, all or none. True where one was that of a node that is dead or has left it.

        Raises NameTaken, and NotAdmitted where NATS is away.
        """
        held: list[str] = []
        inherited = False
        try:
            for name in sorted(set(names)):  # in one order, or two nodes could refuse each other
                held.append(name)
                inherited |= await self._hold(name)
        except BaseException:
            self.release(held, left=inherited)
            raise
        return inherited

    def restore(self, names: Collection[str]) -> None:
        for name in set(names):
            self._held.setdefault(name, _Held()).holders += 1
        self.check()

    def check(self) -> None:
        """Look soon at all names that this node holds, and give up those that others have taken."""
        if self._check is not None:
            self._check.cancel()
        self._check = spawn(self._check_until_served(), name="cluster check")

    def release(self, names: Collection[str], *, left: bool = False) -> None:
        for name in set(names):
            held = self._held[name]
            held.holders -= 1
            held.left = left
            if held.holders == 0:
                spawn(self._give_back(name, held), name="cluster release")

    def remember(self, names: Collection[str], seconds: float) -> None:
        if self._remembered is not None:
            self._remembered.add(names, seconds)

    def revision(self, name: str) -> int:
        """Of the key by which this node owns the name, above each former owner's; 0: it does not own it."""
        held = self._held.get(name)
        return 0 if held is None else held.revision or 0

    def holds(self, name: str) -> bool:
        """Whether this node owns the name, as far as it knows."""
        return self.revision(name) > 0

    async def close(self) -> None:
        """Give back what is still held."""
        await cancel(self._check)
        for name, held in list(self._held.items()):
            held.holders = 0
            await self._give_back(name, held)

    async def _hold(self, name: str) -> bool:
        """Whether it was a dead node's until now."""
        held = self._held.setdefault(name, _Held())
        held.holders += 1
        async with held.lock:
            if held.revision is not None:
                return False
            try:
                held.revision, inherited = await self._write(name)
                await self._subscribe(name, held)
            except ClusterAway as error:
                raise NotAdmitted("cluster_away", f"names cannot be kept unique now: {error}") from error
            if held.revision is None:
                raise NameTaken(f"{name!r} is being published on another node: use another name")
            return inherited

    async def _write(self, name: str) -> tuple[int | None, bool]:
        """The revision of the key that says that this node owns the name, and whether a dead node did.

        No revision where another node owns it.
        """
        key, value = encode(name), value_of(self._own)
        until = self._clock() + MAX_WAIT
        while True:
            found = await self._read(name)
            life = Life.ALIVE if found is None or found.owner is None else self._view.judge(found.owner)
            step = next_step(found, self._own, life)
            try:
                if step is OwnerStep.CREATE:
                    return await self._bucket.create(key, value), False
                if found is not None and step is OwnerStep.TAKE:
                    revision = await self._bucket.update(key, value, found.revision)
                    log.info("name taken over", name=name, owner=found.owner and found.owner.node)
                    return revision, True
            except KeyTaken:
                continue
            if found is not None and step is OwnerStep.KEEP:
                return found.revision, False
            if step is OwnerStep.REFUSE or self._clock() > until:
                return None, False
            if found is not None and found.owner is not None and await self._answers(name, found.owner):
                return None, False
            await self._sleep(LOOK_AGAIN)

    async def _read(self, name: str) -> OwnerKey | None:
        entry = await self._bucket.get(encode(name))
        return None if entry is None else OwnerKey.read(entry.value, entry.revision)

    async def _answers(self, name: str, owner: Identity) -> bool:
        """Whether anybody serves the name; NATS knows at once where its owner is gone."""
        self._beat()
        try:
            await self._bus.ask(self._bus.subjects.stream(name), PROBE, timeout=PROBE_TIMEOUT)
        except NobodyAnswers:
            self._view.nobody_answered(owner, self._clock())
        except ClusterAway:
            raise
        except ClusterError:
            pass  # it does not answer, or too slowly: only its silence tells
        else:
            return True
        return False

    async def _subscribe(self, name: str, held: _Held) -> None:
        if held.revision is not None and held.subscription is None:
            held.subscription = await self._bus.subscribe(self._bus.subjects.stream(name), self._serve)
            await self._bus.flush()

    async def _give_back(self, name: str, held: _Held) -> None:
        async with held.lock:
            if self._before_release is not None:
                await self._before_release()
            if held.holders:
                return  # it was claimed again
            subscription, held.subscription = held.subscription, None
            revision, held.revision = held.revision, None
            if subscription is not None:
                await subscription.close()
            if revision is not None and held.left:
                with suppress(ClusterError):  # else it is free when this node is known to be gone
                    await self._bucket.update(encode(name), value_of(self._own, left=True), revision)
            elif revision is not None:
                await self._remove(revision)
            if not held.holders:
                self._held.pop(name, None)

    async def _remove(self, revision: int) -> None:
        try:
            await self._bucket.remove(revision)
        except ClusterError:
            self._left_behind.add(revision)
        else:
            self._left_behind.discard(revision)

    # after NATS was away, or this node was halted

    def _changed(self, connected: bool) -> None:
        if connected:
            self.check()

    async def _check_until_served(self) -> None:
        """Check, again and again until it went through: JetStream may serve later than NATS connects."""
        while True:
            try:
                return await self._check_all()
            except ClusterError:
                await self._sleep(CHECK_AGAIN)

    async def _check_all(self) -> None:
        """Write the keys that are missing, and give up the names that others took. Raises ClusterAway."""
        for revision in list(self._left_behind):
            await self._remove(revision)
        for name, held in list(self._held.items()):
            async with held.lock:
                if not held.holders:
                    continue
                held.revision, _ = await self._write(name)
                await self._subscribe(name, held)
                subscription = held.subscription
                if held.revision is None and subscription is not None:
                    held.subscription = None
                    await subscription.close()
            if held.revision is None:
                log.warning("name lost to another node", name=name)
                self._lost(name)
