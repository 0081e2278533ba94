"""`publish`, `play` and `smoke` against the real daemon."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import av
import pytest

from gateway.clients.pattern import picture
from harness.gateway import BIN, gateway_process
from harness.waiting import within

DEADLINE = 90.0


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        BIN / "livepeer-gateway", *arguments, "-json", stdout=asyncio.subprocess.PIPE
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int, dict[str, Any]]:
    """The exit status, and what the last line says."""
    out, _ = await within(process.communicate(), deadline=DEADLINE, what="the command")
    assert process.returncode is not None
    return process.returncode, json.loads(out.decode().splitlines()[-1])


def clip(path: Path) -> str:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        for number in range(60):
            container.mux(video.encode(picture(320, 240, number / 60)))
        container.mux(video.encode(None))
    return str(path)


@pytest.mark.asyncio
async def test_a_smoke_test_passes_where_pictures_come_back_changed(tmp_path: Path) -> None:
    async with gateway_process(tmp_path) as gateway:
        status, said = await ended(await start("smoke", gateway.url, "-duration", "2s"))
        assert (status, said["ok"], said["changed"]) == (0, True, True), said
        assert int(said["credited_wei"]) >= 60 * 10**15
        params = ("-params", '{"effect": "none"}', "-duration", "2s")
        status, said = await ended(await start("smoke", gateway.live("cam/whip"), *params))
        assert (status, said["error"]) == (1, "pictures come back as they were"), said
        # the file, watched and written down
        name = tmp_path / "out.mp4"
        publisher = await start("publish", clip(tmp_path / "clip.mp4"), gateway.live("two/whip"), "-loop")
        viewer = await start("play", gateway.live("two/whep"), "-o", str(name), "-duration", "6s")
        status, said = await ended(viewer)
        assert (status, said["width"], said["height"]) == (0, 320, 240), said
        assert said["pictures"] > 30
        publisher.terminate()
        status, published = await ended(publisher)
        assert (status, published["state"]) == (0, "live"), published
        with av.open(str(name)) as container:
            assert sum(1 for _ in container.decode(video=0)) > 30
        await gateway.given_back()


@pytest.mark.asyncio
async def test_what_goes_wrong_is_in_the_last_line(tmp_path: Path) -> None:
    status, said = await ended(await start("smoke", "http://127.0.0.1:9"))
    assert status == 1
    assert "cannot be asked" in said["error"]
    flags = ("-prices", "2000000000000000", "-maxPricePerUnit", "1")
    async with gateway_process(tmp_path, *flags, wait_ready=False) as gateway:
        await gateway.listening()
        status, said = await ended(await start("smoke", gateway.url))
        assert status == 1
        assert "answers 503" in said["error"]
