"""Who owns a name while owners are killed, halted and cut off: keys on a real nats-server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gateway.aio.tasks import cancel, spawn
from gateway.cluster.beats import Beats
from gateway.cluster.bucket import Bucket
from gateway.cluster.bus import Bus, BusMessage
from gateway.cluster.errors import ClusterAway, NoAnswerInTime, NobodyAnswers
from gateway.cluster.names import ClusterNames
from gateway.cluster.presence import DEAD_AFTER, Identity, Life, NodeState, NodeView
from gateway.cluster.subjects import Subjects
from gateway.stream.admission import NotAdmitted
from gateway.stream.claims import NameTaken
from harness.nats import NatsServer
from harness.waiting import SLACK, eventually, within

pytestmark = pytest.mark.asyncio


@dataclass
class Owner:
    """One run of a node, without HTTP: what it holds, and what it lost."""

    identity: Identity
    bus: Bus
    view: NodeView
    beats: Beats
    names: ClusterNames
    lost: list[str]
    stack: AsyncExitStack
    halted: asyncio.Event
    beating: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        await self.stack.enter_async_context(self.bus)
        self.beating.append(spawn(self.beats.run(), name="test beats"))

    async def halt(self) -> None:
        """It does nothing any more, and NATS does not know."""
        self.halted.set()
        await cancel(*self.beating)

    def go_on(self) -> None:
        """It was halted, and does not know."""
        self.halted.clear()
        self.beating.append(spawn(self.beats.run(), name="test beats"))

    async def die(self) -> None:
        """It ends at once, and gives nothing back."""
        await self.halt()
        await self.stack.aclose()


def owner(nats: NatsServer, node: str, incarnation: str = "1") -> Owner:
    identity = Identity(node, incarnation)
    bus = Bus([nats.url], Subjects("names"), name=node)
    view = NodeView(identity)

    def state() -> NodeState:
        return NodeState(identity, "0.1", "", 0, 0, 0.0, open=True, draining=False)

    def check_names() -> None:
        names.check()

    beats = Beats(
        bus,
        Bucket(bus, "names-nodes", ttl=30.0, in_memory=True),
        view,
        state,
        stood_still=check_names,
    )
    lost: list[str] = []
    halted = asyncio.Event()

    def answer(message: BusMessage) -> None:
        if not halted.is_set():
            spawn(bus.answer(message.reply, b""), name="test answer", expected=(ClusterAway,))

    names = ClusterNames(
        bus,
        Bucket(bus, "names-names"),
        view,
        identity,
        serve=answer,
        lost=lost.append,
        beat=beats.beat_now,
    )
    return Owner(identity, bus, view, beats, names, lost, AsyncExitStack(), halted)


@asynccontextmanager
async def owners(nats: NatsServer, *nodes: str) -> AsyncIterator[list[Owner]]:
    """Nodes that have known each other for long enough to judge."""
    made = [owner(nats, node) for node in nodes]
    try:
        for one in made:
            await one.start()
        for one in made:
            await eventually(
                lambda one=one: all(one.view.judge(other.identity) is Life.ALIVE for other in made)  # type: ignore[misc]
            )
        settled = time.monotonic() + DEAD_AFTER
        await eventually(lambda: time.monotonic() > settled)
        yield made
    finally:
        for one in made:
            await one.die()


async def test_a_killed_owners_name_is_free_within_about_a_second(nats: NatsServer) -> None:
    async with owners(nats, "a", "b") as (a, b):
        await a.names.claim(["killed", "id"])
        with pytest.raises(NameTaken):
            await b.names.claim(["killed"])
        await a.die()
        began = time.monotonic()
        await within(b.names.claim(["killed", "id"]))
        assert time.monotonic() - began < 1.5 * SLACK
        assert b.names.holds("killed") and b.names.holds("id")


async def test_a_halted_owners_name_is_free_after_three_seconds_and_it_learns_that(nats: NatsServer) -> None:
    async with owners(nats, "a", "b") as (a, b):
        await a.names.claim(["halted"])
        await a.halt()
        began = time.monotonic()
        await within(b.names.claim(["halted"]))
        assert DEAD_AFTER - 1.0 < time.monotonic() - began < DEAD_AFTER * SLACK
        a.go_on()
        assert await eventually(lambda: a.lost) == ["halted"]
        assert not a.names.holds("halted")
        a.names.release(["halted"])
        with pytest.raises(NameTaken):
            await a.names.claim(["halted"])
        assert b.names.holds("halted")


async def test_the_next_run_of_a_node_has_its_names_at_once(nats: NatsServer) -> None:
    async with owners(nats, "a", "b") as (a, b):
        await a.names.claim(["again"])
        await a.die()
        after = owner(nats, "a", "2")
        await after.start()
        try:
            after.names.restore(["again"])
            await eventually(lambda: after.names.holds("again"))
            with pytest.raises(NameTaken):
                await b.names.claim(["again"])
        finally:
            await after.die()


async def test_a_name_is_held_until_its_last_claim_is_given_back(nats: NatsServer) -> None:
    async with owners(nats, "a", "b") as (a, b):
        await a.names.claim(["twice"])
        await a.names.claim(["twice"])
        a.names.release(["twice"])
        with pytest.raises(NameTaken):
            await b.names.claim(["twice"])
        a.names.release(["twice"])
        await a.names.claim(["twice"])  # while it is being given back
        assert a.names.holds("twice")
        a.names.release(["twice"])

        async def free() -> bool:
            try:
                await b.names.claim(["twice"])
            except NameTaken:
                return False
            return True

        await eventually(free)


async def test_of_several_names_all_or_none_are_held(nats: NatsServer) -> None:
    async with owners(nats, "a", "b") as (a, b):
        await a.names.claim(["n2"])
        for _ in range(2):
            with pytest.raises(NameTaken, match="n2"):
                await b.names.claim(["n1", "n2", "n3"])
        await a.names.claim(["n1"])
        await a.names.claim(["n3"])


async def test_claims_while_nats_is_away_are_refused_but_for_names_that_are_held(nats: NatsServer) -> None:
    async with owners(nats, "a", "b") as (a, b):
        await a.names.claim(["held"])
        nats.kill()
        await eventually(lambda: not a.bus.connected and not b.bus.connected)
        await a.names.claim(["held"])
        with pytest.raises(NotAdmitted) as refused:
            await a.names.claim(["new"])
        assert refused.value.code == "cluster_away"
        a.names.release(["held"])
        a.names.release(["held"])  # the key stays behind, for now
        nats.start()
        await eventually(lambda: a.bus.connected and b.bus.connected)

        async def served() -> bool:
            try:
                await b.names.claim(["held"])
            except (NameTaken, NotAdmitted):
                return False
            return True

        await eventually(served)
        assert a.lost == []


async def test_after_nats_was_away_nobody_loses_a_name(nats: NatsServer) -> None:
    async with owners(nats, "a", "b") as (a, b):
        await a.names.claim(["kept"])
        nats.kill()
        await eventually(lambda: not a.bus.connected and not b.bus.connected)
        nats.start()
        refusals = 0
        until = time.monotonic() + DEAD_AFTER
        while time.monotonic() < until:
            with pytest.raises((NameTaken, NotAdmitted)):
                await b.names.claim(["kept"])
            refusals += 1
        await eventually(lambda: a.bus.connected)
        assert refusals
        assert a.names.holds("kept")
        assert a.lost == []


async def test_who_holds_a_name_answers_for_it_and_nobody_else(nats: NatsServer) -> None:
    async with owners(nats, "a", "b") as (a, b):
        await a.names.claim(["asked"])
        subject = b.bus.subjects.stream("asked")
        assert await b.bus.ask(subject) == b""
        a.names.release(["asked"])

        async def nobody() -> bool:
            try:
                await b.bus.ask(subject)
            except NobodyAnswers:
                return True
            except NoAnswerInTime:  # it came in while the name was given back
                pass
            return False

        await eventually(nobody)
