"""The writer and the webhook's delivery, with a real server and ledger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.aio.tasks import cancel, spawn
from gateway.events.file import EventFile
from gateway.events.outbox_writer import KILLED, OutboxWriter
from gateway.events.signature import signed_headers
from gateway.events.webhook import WebhookDelivery
from gateway.payments.ledger import Ledger
from gateway.telemetry.events import EventHub, EventType, StreamKey
from harness.waiting import eventually

pytestmark = pytest.mark.asyncio
KEY = b"k" * 32


class Receiver:
    """Takes events; `statuses` are the answers to come, 200 when there is none left."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.refused: set[str] = set()
        """Streams whose events get 500."""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.text()
        event = json.loads(body)
        headers = request.headers
        assert headers["webhook-id"] == event["id"]
        signed = signed_headers(event["id"], int(headers["webhook-timestamp"]), body, [KEY])
        assert headers["webhook-signature"] == signed["webhook-signature"]
        if event["data"].get("stream") in self.refused:
            return web.Response(status=500)
        self.got.append(event)
        return web.Response(status=204)

    def of(self, stream: str) -> list[str]:
        return [one["type"] for one in self.got if one["data"].get("stream") == stream]


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    receiver, app = Receiver(), web.Application()
    app.router.add_post("/", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield receiver, f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


class Gateway:
    """Hub, ledger, writer and delivery of one run."""

    def __init__(self, ledger: Ledger, http: aiohttp.ClientSession, url: str) -> None:
        self.hub = EventHub()
        delivery = WebhookDelivery(http, url, [KEY], ledger.events, self.hub)
        self.writer = OutboxWriter(self.hub, ledger.events, delivery.wake)
        self.hub.sinks.append(self.writer.take)
        self.ledger = ledger
        self.running = spawn(delivery.run(), name="test delivery")

    async def stop(self) -> None:
        await cancel(self.running)
        await self.writer.close()
        await self.ledger.close()


def tell(hub: EventHub, stream: str, *kinds: EventType) -> None:
    for kind in kinds:
        hub.emit(kind, {"detail": "d"}, StreamKey(stream, stream, f"r-{stream}", ""))


async def test_a_stream_whose_event_is_refused_waits_and_others_go_on(
    receiver: tuple[Receiver, str], tmp_path: Path
) -> None:
    server, url = receiver
    server.refused = {"cam"}
    async with aiohttp.ClientSession() as http:
        gateway = Gateway(await Ledger.open(tmp_path / "l"), http, url)
        tell(gateway.hub, "cam", EventType.STREAM_CREATED)
        await eventually(lambda: gateway.hub.failed_attempts > 0, what="the first refusal")
        tell(gateway.hub, "cam", EventType.STREAM_LIVE)
        tell(gateway.hub, "other", EventType.STREAM_CREATED, EventType.STREAM_LIVE)
        await eventually(lambda: len(server.of("other")) == 2, what="the other stream's events")
        server.refused = set()
        tell(gateway.hub, "cam", EventType.STREAM_ENDED)
        await eventually(lambda: len(server.of("cam")) == 3, what="the events that waited")
        await gateway.stop()
    assert server.of("cam") == ["stream.created", "stream.live", "stream.ended"]
    assert gateway.hub.delivered == 5


async def test_the_next_run_delivers_what_waits_and_ends_what_was_not_ended(
    receiver: tuple[Receiver, str], tmp_path: Path
) -> None:
    server, url = receiver
    async with aiohttp.ClientSession() as http:
        gateway = Gateway(await Ledger.open(tmp_path / "l"), http, "http://127.0.0.1:1/")
        tell(gateway.hub, "gone", EventType.STREAM_CREATED)
        tell(gateway.hub, "held", EventType.STREAM_CREATED)
        tell(gateway.hub, "over", EventType.STREAM_CREATED, EventType.STREAM_ENDED)
        await gateway.stop()
        gateway = Gateway(await Ledger.open(tmp_path / "l"), http, url)
        await gateway.writer.end_former({"r-held"})
        await eventually(lambda: len(server.got) == 5, what="all events")
        await asyncio.sleep(0)
        assert await gateway.ledger.events.streams() in ([], ["gone"])
        await gateway.stop()
    assert server.of("gone") == ["stream.created", "stream.ended"]
    assert next(one for one in server.got if one["data"]["detail"] == KILLED)["data"]["credited_wei"] == "0"
    assert (server.of("held"), server.of("over")) == (["stream.created"], ["stream.created", "stream.ended"])


async def test_the_file_has_a_line_for_each_event(tmp_path: Path) -> None:
    path, hub = tmp_path / "folder" / "events.jsonl", EventHub()
    file = EventFile(path, hub)
    hub.sinks.append(file.take)
    tell(hub, "cam", EventType.STREAM_CREATED)
    await eventually(lambda: path.exists() and path.stat().st_size > 0, what="the first line")
    path.rename(tmp_path / "rotated")
    tell(hub, "cam", EventType.STREAM_ENDED)
    await file.close()
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["type"] == "stream.ended"
    assert path.stat().st_mode & 0o077 == 0
