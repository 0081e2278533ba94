"""What the owner of a stream makes of requests for it."""

from __future__ import annotations

import json

import pytest
from structlog.testing import capture_logs

from gateway.cluster import wire
from gateway.cluster.bus import Bus, BusMessage
from gateway.cluster.errors import NoAnswerInTime
from gateway.cluster.wire import Ask, MessageKind
from harness.nats import NatsServer
from harness.waiting import eventually, within
from tests.cluster.media_nodes import GOP, SUBJECTS, media_node, picture

pytestmark = pytest.mark.asyncio
ASK = SUBJECTS.ask_for_frames("cam")
FRAMES = SUBJECTS.frames("cam")


async def test_each_node_that_asks_is_answered_and_all_get_the_same_messages(nats: NatsServer) -> None:
    async with media_node(nats.url, "a", 7) as owner, Bus([nats.url], SUBJECTS) as other:
        came: list[BusMessage] = []
        await other.subscribe(FRAMES, came.append)
        await other.flush()
        output = await owner.publish()
        output.push(picture(0))
        await eventually(lambda: came, what="word that the stream is here")
        answer = await within(other.ask(ASK, wire.encode_ask(Ask("b", 2, held=True))))
        held = wire.decode_held(answer, 9)
        assert (held.epoch, held.sequence, held.frames) == (7, 1, [picture(0)])
        output.push(picture(1))
        answer = await within(other.ask(ASK, wire.encode_ask(Ask("c", 3, key_frame=True))))
        assert wire.decode_held(answer, 9) == wire.Held(7, 2, [])
        assert owner.relay.viewers_of("cam") == 5
        assert owner.asked == ["cam"]
        output.clear()
        await eventually(lambda: len(came) == 3, what="the end")
        assert [wire.decode(one.data).kind for one in came] == [
            MessageKind.BEGAN,
            MessageKind.FRAME,
            MessageKind.ENDED,
        ]


async def test_who_knows_a_later_owner_is_not_answered_and_what_cannot_be_read_is_logged(
    nats: NatsServer,
) -> None:
    async with media_node(nats.url, "a", 7) as owner, Bus([nats.url], SUBJECTS) as other:
        await owner.publish()
        with pytest.raises(NoAnswerInTime):
            await other.ask(ASK, wire.encode_ask(Ask("b", 1, epoch=8)), timeout=0.2)
        with capture_logs() as logs, pytest.raises(NoAnswerInTime):
            await other.ask(ASK, b"[" * 50, timeout=0.2)
        assert len(logs) == 1
        later = {**json.loads(wire.encode_ask(Ask("b", 1, epoch=7))), "region": "of a later version"}
        assert await within(other.ask(ASK, json.dumps(later).encode()))


async def test_a_frame_that_is_too_large_is_dropped_and_what_needs_it(
    nats: NatsServer,
) -> None:
    async with media_node(nats.url, "a") as owner, media_node(nats.url, "b") as near:
        output = await owner.publish()
        output.push(picture(0))
        viewer = await near.watch()
        huge = picture(GOP)
        huge.nals = [*huge.nals, b"\x06" + b"\x01" * wire.MAX_FRAME]
        for one in (huge, picture(GOP + 1), picture(2 * GOP), picture(2 * GOP + 1)):
            output.push(one)
        await eventually(lambda: len(viewer.times) == 3, what="those behind the next key frame")
        assert owner.relay.counts().dropped == 2
        assert near.relay.counts().gaps == 0


async def test_a_node_whose_lease_had_ended_sees_that_it_has_missed_something(nats: NatsServer) -> None:
    async with media_node(nats.url, "a") as owner, Bus([nats.url], SUBJECTS) as other:
        output = await owner.publish()
        output.push(picture(0))
        joined = wire.decode_held(await within(other.ask(ASK, wire.encode_ask(Ask("b", 1, held=True)))), 9)
        await other.publish(ASK, wire.encode_ask(Ask("b", 0)))
        await eventually(lambda: owner.relay.viewers_of("cam") == 0, what="the end of the lease")
        output.push(picture(1))
        renewed = wire.decode_held(await within(other.ask(ASK, wire.encode_ask(Ask("b", 1)))), 9)
        assert renewed.sequence > joined.sequence


async def test_who_has_no_right_to_the_name_yet_answers_once_it_has(nats: NatsServer) -> None:
    """As after a start, before the key is written, and when it is written anew after NATS was away."""
    async with media_node(nats.url, "a", 0) as owner, Bus([nats.url], SUBJECTS) as other:
        output = await owner.publish()
        output.push(picture(0))
        with pytest.raises(NoAnswerInTime):
            await other.ask(ASK, wire.encode_ask(Ask("b", 1)), timeout=0.2)
        for owner.epoch in (3, 8):
            answer = await within(other.ask(ASK, wire.encode_ask(Ask("b", 1, held=True))))
            held = wire.decode_held(answer, 9)
            assert (held.epoch, len(held.frames)) == (owner.epoch, 1)
