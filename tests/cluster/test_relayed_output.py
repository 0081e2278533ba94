"""What a node with viewers asks the owner of a stream for; the test is the owner."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.aio.tasks import spawn
from gateway.cluster import wire
from gateway.cluster.bus import Bus, BusMessage
from gateway.cluster.wire import Ask, Held, MessageKind
from gateway.media.frames import AccessUnit
from harness.nats import NatsServer
from harness.waiting import eventually
from tests.cluster.media_nodes import GOP, SUBJECTS, MediaNode, media_node, picture

pytestmark = pytest.mark.asyncio


class ScriptedOwner:
    """Answers with `held`, keeps what it was asked for, and sends the messages that it is told to."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.asks: list[Ask] = []
        self.held: Held | None = Held(5, 0, [picture(0)])
        self.answer = b""
        """In place of `held`."""

    def on_ask(self, message: BusMessage) -> None:
        self.asks.append(wire.decode_ask(message.data))
        if message.reply and (self.answer or self.held is not None):
            data = self.answer or wire.encode_held(self.held or Held(0, 0, []))
            spawn(self.bus.answer(message.reply, data), name="test-answer")

    async def send(self, frame: AccessUnit, sequence: int, epoch: int = 5) -> None:
        for message in wire.messages_of(frame, epoch, sequence):
            await self.bus.publish(SUBJECTS.frames("cam"), message)

    async def tell(self, kind: MessageKind, epoch: int = 5) -> None:
        await self.bus.publish(SUBJECTS.frames("cam"), wire.encode(kind, epoch, 0))


@pytest_asyncio.fixture
async def owner(nats: NatsServer) -> AsyncIterator[ScriptedOwner]:
    async with Bus([nats.url], SUBJECTS) as bus:
        scripted = ScriptedOwner(bus)
        await bus.subscribe(SUBJECTS.ask_for_frames("cam"), scripted.on_ask)
        await bus.flush()
        yield scripted


@pytest_asyncio.fixture
async def node(nats: NatsServer) -> AsyncIterator[MediaNode]:
    async with media_node(nats.url, "b") as one:
        yield one


async def test_it_asks_for_the_held_pictures_once_and_then_to_go_on(
    owner: ScriptedOwner, node: MediaNode
) -> None:
    viewer = await node.watch()
    await node.watch()
    assert len(viewer.times) == 1
    await eventually(lambda: len(owner.asks) == 3, what="two more requests")
    assert [ask.held for ask in owner.asks] == [True, False, False]
    assert [ask.viewers for ask in owner.asks] == [1, 2, 2]
    assert [ask.epoch for ask in owner.asks] == [0, 5, 5]
    assert {ask.node for ask in owner.asks} == {"b"}


async def test_a_gap_is_counted_and_a_key_frame_asked_for_until_there_is_one(
    owner: ScriptedOwner, node: MediaNode
) -> None:
    viewer = await node.watch()
    await owner.send(picture(1), 0)
    await owner.send(picture(3), 2)
    await eventually(lambda: any(ask.key_frame for ask in owner.asks), what="the request")
    await owner.send(picture(4), 3)
    await owner.send(picture(GOP), 4)
    await owner.send(picture(GOP + 1), 5)
    await eventually(lambda: len(viewer.times) == 4, what="pictures again")
    assert node.relay.counts().gaps == 1
    assert viewer.times == [0, 3_000, GOP * 3_000, (GOP + 1) * 3_000]
    asked = sum(ask.key_frame for ask in owner.asks)
    renewals = len(owner.asks)
    await eventually(lambda: len(owner.asks) > renewals, what="a renewal")
    assert sum(ask.key_frame for ask in owner.asks) == asked


async def test_who_takes_the_name_is_asked_at_once_though_an_answer_is_still_waited_for(
    owner: ScriptedOwner, node: MediaNode
) -> None:
    owner.held = None
    assert await node.relay.is_elsewhere("cam"), "it is there, and silent"
    owner.asks.clear()
    viewer = await node.watch()
    assert not viewer.times
    assert len(owner.asks) == 1
    owner.held = Held(6, 9, [picture(0), picture(1)])
    await owner.tell(MessageKind.BEGAN, 6)
    await eventually(lambda: len(viewer.times) == 2, what="its pictures", deadline=2.0)
    await owner.send(picture(2), 9, 6)
    await eventually(lambda: len(viewer.times) == 3, what="its next picture")


async def test_a_silent_owner_is_forgotten_and_one_with_a_lower_epoch_taken(
    owner: ScriptedOwner, node: MediaNode
) -> None:
    """As after the loss of the bucket whose revisions the epochs are."""
    viewer = await node.watch()
    assert node.output().held_bytes > 0
    owner.held = None
    await eventually(lambda: node.output().held_bytes == 0, what="the lease to end")
    owner.held = Held(2, 0, [picture(0)])
    await eventually(lambda: len(viewer.times) == 2, what="the other owner's picture")


async def test_an_answer_that_cannot_be_read_is_as_none(owner: ScriptedOwner, node: MediaNode) -> None:
    owner.answer = b"\x01nonsense"
    viewer = await node.watch()
    assert not viewer.times
    owner.answer = b""
    await eventually(lambda: viewer.times, what="the next answer")


async def test_the_owner_is_told_that_the_last_viewer_left(owner: ScriptedOwner, node: MediaNode) -> None:
    first, second = await node.watch(), await node.watch()
    node.leave(first)
    node.leave(second)
    await eventually(lambda: owner.asks[-1].viewers == 0, what="word of it")
    again = await node.watch()
    assert again.times
