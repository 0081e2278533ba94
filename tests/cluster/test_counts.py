"""Limits over nodes: on keys that fail and lose answers, and on a real nats-server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.aio.tasks import spawn
from gateway.cluster.bucket import Bucket, BucketEntry
from gateway.cluster.bus import Bus
from gateway.cluster.counts import ClusterCounts
from gateway.cluster.errors import ClusterAway, KeyTaken
from gateway.cluster.presence import Identity, Life, NodeView
from gateway.cluster.subjects import Subjects
from gateway.stream.admission import NotAdmitted
from gateway.stream.quotas import Claim, LimitReached, Quotas, Reservation
from harness.nats import NatsServer
from harness.waiting import eventually, within

MAXIMUM = 3
LIMIT = [Claim("maxStreams of this token", MAXIMUM, "t", shared=True)]


@dataclass
class Keys:
    """A bucket in memory. `trouble` says before each operation what becomes of it."""

    trouble: Callable[[], str] = lambda: ""
    values: dict[str, BucketEntry] = field(default_factory=dict)
    revision: int = 0

    async def get(self, key: str) -> BucketEntry | None:
        await self._do("")
        return self.values.get(key)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        trouble = self.trouble()
        await self._do(trouble)
        found = self.values.get(key)
        if (found.revision if found else 0) != revision:
            raise KeyTaken(key)
        self.revision += 1
        self.values[key] = BucketEntry(value, self.revision)
        self._answer(trouble)
        return self.revision

    async def remove(self, revision: int) -> bool:
        trouble = self.trouble()
        await self._do(trouble)
        found = [key for key, entry in self.values.items() if entry.revision == revision]
        for key in found:
            del self.values[key]
        self._answer(trouble)
        return bool(found)

    async def _do(self, trouble: str) -> None:
        await asyncio.sleep(0)
        if trouble == "request lost":
            raise ClusterAway("it is away")

    def _answer(self, trouble: str) -> None:
        if trouble == "answer lost":
            raise ClusterAway("it is away")


class Connection:
    """What is used of a bus."""

    def __init__(self) -> None:
        self.connected = True
        self.changed: Callable[[bool], None] = lambda connected: None

    def watch(self, changed: Callable[[bool], None]) -> None:
        self.changed = changed

    def turn(self, connected: bool) -> None:
        self.connected = connected
        self.changed(connected)


class View:
    """What is used of a node's view."""

    def __init__(self) -> None:
        self.lives: dict[Identity, Life] = {}

    def judge(self, node: Identity) -> Life:
        return self.lives.get(node, Life.ALIVE)


class Node:
    """Some node's quotas, and those that were let in."""

    def __init__(self, name: str, keys: Keys) -> None:
        self.identity = Identity(name, "1")
        self.connection, self.view = Connection(), View()
        self.counts = ClusterCounts(
            cast("Bus", self.connection),
            cast("Bucket", keys),
            cast("NodeView", self.view),
            self.identity,
            sleep=lambda _: asyncio.sleep(0),
        )
        self.quotas = Quotas(self.counts)
        self.inside: list[Reservation] = []

    async def come(self) -> str:
        try:
            self.inside.append(await self.quotas.reserve(LIMIT))
        except LimitReached:
            return "full"
        except NotAdmitted:
            return "away"
        return ""

    async def come_instead(self) -> str:
        """Take the place of the one that came first."""
        former = self.inside.pop(0)
        try:
            self.inside.append(await self.quotas.reserve(LIMIT, replacing=former))
        finally:
            former.release()
        return ""

    def leave(self) -> None:
        if self.inside:
            self.inside.pop(0).release()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["come", "leave", "cancel"]))), st.data())
def test_there_are_never_more_than_the_maximum_whatever_gets_lost(
    steps: list[tuple[str, str]], data: st.DataObject
) -> None:
    seed = data.draw(st.integers(0, 2**32))
    losses = data.draw(st.sampled_from([0.0, 0.2, 0.6]))
    chance = random.Random(seed)

    async def run() -> None:
        lossy = True

        def trouble() -> str:
            if lossy and chance.random() < losses:
                return chance.choice(["request lost", "answer lost"])
            return ""

        keys = Keys(trouble)
        nodes = {name: Node(name, keys) for name in "abc"}
        coming: list[asyncio.Task[str]] = []

        def check() -> None:
            assert sum(len(node.inside) for node in nodes.values()) <= MAXIMUM

        for name, step in steps:
            if step == "come":
                coming.append(spawn(nodes[name].come(), name="test come"))
            elif step == "cancel" and coming:
                coming[-1].cancel()
            else:
                nodes[name].leave()
            for _ in range(chance.randrange(5)):
                await asyncio.sleep(0)
                check()
        await asyncio.gather(*coming, return_exceptions=True)
        check()
        lossy = False
        for node in nodes.values():
            while node.inside:
                node.leave()
        await eventually(lambda: not keys.values)
        outcomes = [await nodes[name].come() for name in "abca"]
        assert outcomes == ["", "", "", "full"]
        for node in nodes.values():
            await node.counts.close()
        assert not keys.values

    asyncio.run(run())


@pytest.mark.asyncio
async def test_a_dead_node_counts_no_more_and_one_that_may_be_is_waited_for() -> None:
    keys = Keys()
    a, b = Node("a", keys), Node("b", keys)
    for _ in range(MAXIMUM):
        assert await a.come() == ""
    assert await b.come() == "full"
    b.view.lives[a.identity] = Life.UNSURE
    coming = spawn(b.come(), name="test come")
    await asyncio.sleep(0.01)
    assert not coming.done()
    b.view.lives[a.identity] = Life.DEAD
    assert await within(coming) == ""
    a.connection.turn(False)
    a.connection.turn(True)  # it was not dead: it says what it has, and nobody comes in above
    await eventually(lambda: b"".join(entry.value for entry in keys.values.values()).count(b'"a"') == 1)
    a.leave()
    assert await a.come() == "full"
    for node in (a, b):
        await node.counts.close()


@pytest.mark.asyncio
async def test_while_nats_is_away_only_who_takes_anothers_place_comes_in() -> None:
    keys = Keys()
    a = Node("a", keys)
    assert await a.come() == ""
    a.connection.turn(False)
    keys.trouble = lambda: "request lost"
    assert await a.come() == "away"
    assert await a.come_instead() == ""
    keys.trouble = lambda: ""
    a.connection.turn(True)
    assert await a.come() == ""
    await a.counts.close()
    assert not keys.values


@pytest.mark.asyncio
async def test_many_at_several_nodes_come_in_up_to_the_maximum(nats: NatsServer) -> None:
    claims = [Claim("maxViewers of this token", 50, "t", shared=True)]
    async with AsyncExitStack() as stack:
        quotas = []
        alive = View()
        for name in "abc":
            bus = await stack.enter_async_context(Bus([nats.url], Subjects("counts"), name=name))
            bucket = Bucket(bus, "counts")
            counts = ClusterCounts(bus, bucket, cast("NodeView", alive), Identity(name, "1"))
            stack.push_async_callback(counts.close)
            quotas.append(Quotas(counts))

        async def come(at: Quotas) -> Reservation | None:
            try:
                return await at.reserve(claims)
            except LimitReached:
                return None

        first = [quotas[0].reserve(claims) for _ in range(20)] + [
            quotas[1].reserve(claims) for _ in range(20)
        ]
        inside = await within(asyncio.gather(*first))
        inside[0].release()
        inside.append(await within(quotas[2].reserve(claims)))
        assert len(inside) == 41
