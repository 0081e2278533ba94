"""Events of the real gateway: a receiver that fails and comes back, over a kill -9; and event streams."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.aio.tasks import spawn
from harness.devnet import devnet_process, network_flags
from harness.gateway import GatewayProcess, gateway_process
from harness.waiting import DEADLINE, eventually
from harness.webrtc import WhipPublisher

SECRET = f"whsec_{base64.b64encode(b'k' * 32).decode()}"


class Receiver:
    """An operator's server, which refuses what comes while it is not `up`."""

    def __init__(self) -> None:
        self.up = True
        self.refused = 0
        self.events: list[dict[str, Any]] = []

    async def take(self, request: web.Request) -> web.Response:
        if not self.up:
            self.refused += 1
            return web.Response(status=503)
        self.events.append(await request.json())
        return web.Response()

    def types(self, stream: str) -> list[str]:
        """In the order of their first delivery."""
        first = {one["id"]: one for one in self.events if one["data"].get("stream") == stream}
        return [one["type"] for one in first.values()]


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[Receiver, str]]:
    receiver, app = Receiver(), web.Application()
    app.router.add_post("/events", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield receiver, f"http://127.0.0.1:{runner.addresses[0][1]}/events"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def gateway_on(devnet: dict[str, Any], folder: Path, url: str) -> AsyncIterator[GatewayProcess]:
    flags = (*network_flags(devnet), "-ledger", str(folder / "ledger.sqlite3"), "-resumeTimeout", "0s")
    events = ("-eventWebhookUrl", url, "-eventWebhookSecret", SECRET, "-eventsFile", str(folder / "events"))
    async with gateway_process(folder, *flags, *events, devnet=False) as gateway:
        yield gateway


async def read_until(http: aiohttp.ClientSession, url: str, wanted: str) -> list[str]:
    """The types of events of an event stream, up to the `wanted` one."""
    found = []
    async with asyncio.timeout(DEADLINE), http.get(url) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        async for line in response.content:
            name, _, value = line.decode().strip().partition(": ")
            if name == "event":
                found.append(value)
                if value == wanted:
                    break
    return found


@pytest.mark.asyncio
async def test_no_event_is_lost_or_out_of_order_over_a_kill(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with listening() as (receiver, url), devnet_process(tmp_path) as devnet:
        async with gateway_on(devnet, tmp_path, url) as gateway:
            everybody = spawn(
                read_until(http, f"{gateway.url}events?after=all", "stream.ended"), name="test operator"
            )
            viewer = spawn(read_until(http, gateway.live("one/events"), "worker"), name="test viewer")
            async with WhipPublisher(http, gateway.live("one/whip")):
                await eventually(lambda: receiver.types("one") == ["stream.created", "stream.live"])
                assert "stream.created" in await viewer
                receiver.up = False
                async with WhipPublisher(http, gateway.live("two/whip")) as second:
                    await eventually(lambda: receiver.refused > 1, what="refused events")
                    await second.stop()
                    assert (await everybody)[-1] == "stream.ended"
                os.kill(gateway.pid, signal.SIGKILL)
                await asyncio.wait_for(gateway.process.wait(), DEADLINE)
        async with gateway_on(devnet, tmp_path, url):
            receiver.up = True
            whole = ["stream.created", "stream.live", "stream.ended"]
            await eventually(lambda: receiver.types("two")[-1:] == whole[-1:], what="the second stream's end")
            await eventually(lambda: receiver.types("one") == whole, what="the first stream's end")
    assert receiver.types("two") in (whole, [whole[0], whole[2]])
    ended = {one["data"]["stream"]: one["data"] for one in receiver.events if one["type"] == "stream.ended"}
    assert ended["one"]["reason"] == "internal_error"
    assert int(ended["one"]["credited_wei"]) > 0
    lines = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert {one["id"] for one in receiver.events} <= {one["id"] for one in lines}
