"""A gateway with too little CPU refuses new clients and keeps its streams."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.aio.tasks import cancel, spawn
from harness.gateway import GatewayProcess, gateway_process
from harness.waiting import eventually
from harness.webrtc import FPS, Refused, WhepViewer, WhipPublisher


@asynccontextmanager
async def starved(pid: int) -> AsyncIterator[None]:
    """The process runs for 50 ms in each 220 ms: every turn of its loop is late."""

    async def starve() -> None:
        while True:
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(0.17)
            finally:
                os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(0.05)

    starving = spawn(starve(), name="starve")
    try:
        yield
    finally:
        await cancel(starving)


async def refusal(gateway: GatewayProcess, http: aiohttp.ClientSession) -> Refused | None:
    try:
        async with WhipPublisher(http, gateway.live("other/whip"), patient=False) as publisher:
            await publisher.stop()
    except Refused as refused:
        return refused
    return None


@pytest.mark.asyncio
async def test_new_clients_are_refused_while_the_loop_is_late_and_live_streams_keep_their_frames(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with (
        gateway_process(tmp_path, "-effect", "none") as gateway,
        WhepViewer(http, gateway.live("cam/whep")) as viewer,
        WhipPublisher(http, gateway.live("cam/whip")) as publisher,
    ):
        await eventually(lambda: viewer.frames > FPS, what="the picture")
        async with starved(gateway.pid):
            refused = await eventually(lambda: refusal(gateway, http), every=0.5, what="a refusal")
            assert (refused.status, refused.problem["code"]) == (503, "overloaded")
            assert int(refused.headers["Retry-After"]) > 0
            sent, seen = publisher.track.sent, viewer.frames
            await eventually(lambda: publisher.track.sent - sent >= 3 * FPS, what="three seconds of pictures")
            assert viewer.frames - seen == pytest.approx(publisher.track.sent - sent, rel=0.25)
            assert await refusal(gateway, http) is not None
        status = await gateway.status("cam")
        assert (status["state"], status["swaps"], status["error"]) == ("live", 0, None)

        async def welcome() -> bool:
            return await refusal(gateway, http) is None

        await eventually(welcome, every=0.5, what="a welcome once it has its time again")
