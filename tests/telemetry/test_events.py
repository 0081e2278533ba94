"""Events in memory: who gets which, in which form, and what a slow reader loses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.telemetry.events import MAX_QUEUED, MAX_TEXT, EventHub, EventType, Reader, StreamKey

pytestmark = pytest.mark.asyncio

CAM = StreamKey("cam", "cam", "r1", "token alice", "Alice")
OTHER = StreamKey("other", "other", "r2")


def read(message: bytes | None) -> list[tuple[str, dict[str, Any]]]:
    """Types and data of the messages in a piece of an event stream."""
    assert message is not None
    found = []
    for one in message.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in one.split("\n"))
        found.append((fields["event"], json.loads(fields["data"])["data"]))
    return found


def never() -> None:
    raise AssertionError("a reader that keeps up keeps its connection")


async def test_the_operator_gets_all_events_and_a_viewer_those_of_its_stream() -> None:
    hub = EventHub()
    with hub.reading(None, "", never) as operator, hub.reading("cam", "", never) as viewer:
        hub.emit(EventType.STREAM_CREATED, {"pipeline": "m"}, CAM)
        hub.emit(EventType.STREAM_CREATED, {"pipeline": "m"}, OTHER)
        hub.emit(EventType.NODE_DRAINING, {"streams": 2})
        hub.worker_said(CAM, {"type": "status", "fps": 20})
        all_types = [kind for kind, _ in read(await operator.take(1))]
        assert all_types == ["stream.created", "stream.created", "node.draining"]
        seen = read(await viewer.take(1))
    assert [kind for kind, _ in seen] == ["stream.created", "worker"]
    assert seen[0][1] == {"stream": "cam", "stream_id": "cam", "request_id": "r1", "pipeline": "m"}
    assert seen[1][1]["event"] == {"type": "status", "fps": 20}


async def test_who_comes_back_gets_what_it_missed() -> None:
    hub = EventHub()
    for number in range(3):
        hub.emit(EventType.STREAM_LIVE, {"number": number}, CAM)
    ids = [event.id for event in hub.recent()]
    with hub.reading("cam", ids[0], never) as back, hub.reading("cam", "unknown", never) as lost:
        assert [data["number"] for _, data in read(await back.take(1))] == [1, 2]
        assert [data["number"] for _, data in read(await lost.take(1))] == [0, 1, 2]
    with hub.reading("cam", "", never) as fresh:
        assert await fresh.take(0.001) == b""


async def test_a_slow_reader_loses_its_connection() -> None:
    aborted = []
    reader = Reader("cam", lambda: aborted.append(True))
    for _ in range(MAX_QUEUED + 2):
        reader.push(b"x")
    assert aborted == [True]
    assert await reader.take(1) is None


async def test_an_event_has_a_bounded_text() -> None:
    hub = EventHub()
    hub.emit(EventType.STREAM_ENDED, {"detail": "x" * 10 * MAX_TEXT}, CAM)
    (event,) = hub.recent()
    assert len(event.text) < MAX_TEXT + 500
    assert json.loads(event.text)["data"]["publisher"] == "token alice"
    assert "alice" not in event.public_text.lower()
