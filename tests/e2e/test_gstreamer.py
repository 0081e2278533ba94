"""GStreamer's webrtcbin, from Debian's packages, publishes picture and sound."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from harness.gateway import gateway_process
from harness.waiting import DEADLINE, eventually
from harness.webrtc import WhepViewer

DEBIANS_PYTHON = "/usr/bin/python3"
PROGRAM = Path(__file__).parents[1] / "clients" / "gstreamer_publisher.py"


@pytest.mark.long
@pytest.mark.asyncio
async def test_webrtcbin_publishes_and_is_watched(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with gateway_process(tmp_path, "-effect", "none", "-orchestrators", "1") as gateway:
        command = (DEBIANS_PYTHON, PROGRAM, gateway.live("gst/whip"), "12")
        publisher = await asyncio.create_subprocess_exec(*command)
        try:
            async with WhepViewer(http, gateway.live("gst/whep"), audio=True) as viewer:
                await eventually(
                    lambda: viewer.frames > 60 and viewer.sound > 50, what="its picture and sound"
                )
                assert viewer.size == (640, 360)
                status = await gateway.status("gst")
                assert (status["error"], status["ingest"]["packets_lost"]) == (None, 0)
            assert await asyncio.wait_for(publisher.wait(), DEADLINE) == 0
        finally:
            if publisher.returncode is None:
                publisher.kill()
                await publisher.wait()
