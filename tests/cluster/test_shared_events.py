"""Who reads a stream's events at one node gets those of the node that has it."""

from __future__ import annotations

import pytest

from gateway.cluster.bus import Bus
from gateway.cluster.shared_events import SharedEvents
from gateway.telemetry.events import EventHub, EventType, StreamKey
from harness.nats import NatsServer
from harness.waiting import eventually
from tests.cluster.media_nodes import SUBJECTS

pytestmark = pytest.mark.asyncio
CAM = StreamKey("cam", "cam", "r1")


def fail() -> None:
    raise AssertionError("the reader keeps up")


async def test_events_come_once_from_the_node_that_has_the_stream(nats: NatsServer) -> None:
    async with Bus([nats.url], SUBJECTS) as one, Bus([nats.url], SUBJECTS) as two:
        hubs = EventHub("one"), EventHub("two")
        shared = SharedEvents(one, "1", hubs[0]), SharedEvents(two, "2", hubs[1])
        for hub, each in zip(hubs, shared, strict=True):
            hub.remote = each
        with hubs[0].reading("cam", "", fail) as own, hubs[1].reading("cam", "", fail) as other:
            for each, bus in zip(shared, (one, two), strict=True):
                await each.watch("cam")
                await bus.flush()
            hubs[0].emit(EventType.STREAM_LIVE, {}, CAM)
            hubs[0].worker_said(CAM, {"type": "status"})
            came = []
            while len(came) < 2:
                came += (await other.take(5) or b"").decode().strip().split("\n\n")
            assert ["stream.live" in came[0], "worker" in came[1]] == [True, True]
            await shared[1].unwatch("cam")
            await two.flush()
            own_text = (await own.take(5) or b"").decode()
            assert own_text.count("stream.live\n") == 1
            hubs[0].emit(EventType.STREAM_ENDED, {}, CAM)
            await eventually(lambda: not shared[0].waiting, what="the last message")
            assert await other.take(0.05) == b""
        for each in shared:
            await each.close()
