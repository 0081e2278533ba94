"""GStreamer's webrtcbin, from Debian's packages, publishes picture and sound."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from harness.gateway import gateway_process
from harness.processes import program
from harness.waiting import eventually, within
from harness.webrtc import WhepViewer

DEBIANS_PYTHON = "/usr/bin/python3"
PROGRAM = Path(__file__).parents[2] / "harness" / "gstreamer_publisher.py"


@pytest.mark.long
@pytest.mark.asyncio
async def test_webrtcbin_publishes_and_is_watched(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with gateway_process(tmp_path, "-effect", "none") as gateway:
        command = (DEBIANS_PYTHON, PROGRAM, gateway.live("gst/whip"), "12")
        async with program(*command) as publisher:
            async with WhepViewer(http, gateway.live("gst/whep"), audio=True) as viewer:
                await eventually(
                    lambda: viewer.frames > 60 and viewer.sound > 50, what="its picture and sound"
                )
                assert viewer.size == (640, 360)
                status = await gateway.status("gst")
                assert (status["error"], status["ingest"]["packets_lost"]) == (None, 0)
            assert await within(publisher.wait(), what="the publisher to leave") == 0
