"""HLS of the real daemon: caches may keep it, and Chromium falls back to it where WebRTC finds no way."""

from __future__ import annotations

import asyncio
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from harness.browser import chromium
from harness.gateway import BIN, gateway_process
from harness.waiting import eventually, within
from tests.outputs.media import probed, transport_stream

NO_WAY = """const set = RTCPeerConnection.prototype.setRemoteDescription;
RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
  return set.call(this, { type, sdp: sdp.replace(/a=ice-pwd:.*/g, "a=ice-pwd:" + "x".repeat(24)) });
};"""
"""No check of ICE's is answered, as where UDP does not get through."""
PLAYS = "() => { const v = document.getElementById('video'); return v.currentTime > 2 && v.videoWidth > 0; }"


@pytest.mark.asyncio
async def test_a_browser_that_webrtc_does_not_reach_plays_what_caches_may_keep(
    tmp_path: Path, record_property: Any
) -> None:
    clip = tmp_path / "clip.ts"
    clip.write_bytes(transport_stream(4))
    async with gateway_process(tmp_path) as gateway, chromium() as browser:
        async with gateway.http.get(gateway.live("cam/index.m3u8")) as response:
            assert response.status == 404
        publisher = await asyncio.create_subprocess_exec(
            *(BIN / "livepeer-gateway", "publish", clip, gateway.live("cam/whip"), "-loop"),
            stdout=asyncio.subprocess.DEVNULL,
        )

        async def playlist() -> str:
            async with gateway.http.get(gateway.live("cam/index.m3u8")) as response:
                return await response.text() if response.status == 200 else ""

        text = await eventually(playlist, what="the first segment")
        async with gateway.http.get(gateway.live("cam/index.m3u8")) as response:
            assert response.headers["Cache-Control"] == "public, max-age=1"
        files = [*re.findall(r'URI="(.*)"', text), *re.findall(r"^hls/.*m4s$", text, re.MULTILINE)]
        path = tmp_path / "some.mp4"
        with path.open("wb") as whole:
            for file in files:
                async with gateway.http.get(gateway.live(f"cam/{file}")) as response:
                    assert response.status == 200, file
                    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
                    whole.write(await response.read())
        found = await probed(path)
        assert found["video"]["packets"] >= 25
        assert abs(found["video"]["start"] - found["audio"]["start"]) < 0.05
        async with gateway.http.get(gateway.live("cam/hls/none.m4s")) as response:
            assert response.status == 404

        page = await browser.new_page()
        await page.add_init_script(NO_WAY)
        await page.goto(gateway.url + "watch?stream=cam")
        await page.wait_for_function(PLAYS, timeout=60_000)
        delays = []
        for _ in range(6):
            await asyncio.sleep(0.5)
            delays.append(float(await page.get_attribute("#video", "data-delay-ms") or "nan"))
        record_property("delay_ms", delays)
        assert statistics.median(delays) < 10_000
        await page.close()
        publisher.terminate()
        await within(publisher.wait())
        await gateway.given_back()
