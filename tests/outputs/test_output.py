"""An output against FFmpeg as the far end: reached, killed, gone, and one that stops reading."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from gateway.media.frames import AccessUnit, Frame
from gateway.outputs.destinations import FarEnd, FileEnd
from gateway.outputs.output import Output, OutputState
from gateway.outputs.target import parse_target
from harness.waiting import eventually, within
from tests.outputs.media import FPS, far_end, frames, probed

pytestmark = pytest.mark.heavy


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Output]:
    target = parse_target(url)
    destination = FarEnd(target, None) if target.is_network else FileEnd(target, "cam")
    output = Output(destination, "ffmpeg", log=structlog.get_logger())
    output.start()
    try:
        yield output
    finally:
        await output.close()


async def send(output: Output, media: Iterable[Frame], *, speed: float = 2.0) -> None:
    """Hand frames over at `speed` times their pace; no call may take long."""
    for frame in media:
        began = time.perf_counter()
        output.on_frame(frame)
        assert time.perf_counter() - began < 0.05
        if isinstance(frame, AccessUnit):
            await asyncio.sleep(1 / FPS / speed)


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["rtmp", "srt"])
async def test_pictures_and_sound_arrive_in_step(tmp_path: Path, unused_tcp_port: int, scheme: str) -> None:
    file = tmp_path / "got.mkv"
    place = f"127.0.0.1:{unused_tcp_port}"
    listen = {
        "rtmp": ["-listen", "1", "-i", f"rtmp://{place}/live/key"],
        "srt": ["-i", f"srt://{place}?mode=listener"],
    }
    server = await far_end(*listen[scheme], "-c", "copy", "-f", "matroska", str(file))
    url = f"rtmp://{place}/live/key" if scheme == "rtmp" else f"srt://{place}?streamid=cam"
    async with running(url) as output:
        await send(output, frames(6))
        assert output.state is OutputState.LIVE
        assert output.queue.dropped == 0
    await within(server.wait(), what="the far end")
    found = await probed(file)
    assert (found["video"]["codec"], found["audio"]["codec"]) == ("h264", "aac")
    assert found["video"]["end"] - found["video"]["start"] > 4.0
    assert abs(found["video"]["start"] - found["audio"]["start"]) < 0.04
    assert found["video"]["gap"] < 0.05


@pytest.mark.asyncio
async def test_a_killed_process_and_a_far_end_that_was_away_are_followed_by_another_try(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    url = f"rtmp://127.0.0.1:{unused_tcp_port}/live/secret"
    async with running(url) as output:
        await send(output, frames(2))
        await eventually(lambda: output.restarts > 0, what="the first failure")
        assert "refused" in output.error
        assert "secret" not in output.error
        server = await far_end("-listen", "1", "-i", url, "-c", "copy", "-f", "null", "-")
        sending = asyncio.create_task(send(output, frames(30, start=20), speed=1))  # noqa: TID251
        await eventually(lambda: output.state is OutputState.LIVE, what="the far end that came")
        pid, before = output.pid, output.restarts
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await within(server.wait(), what="the far end")
        await eventually(lambda: output.restarts > before, what="the next try")
        server = await far_end("-listen", "1", "-i", url, "-c", "copy", "-f", "null", "-")
        await eventually(lambda: output.state is OutputState.LIVE, what="the next process")
        server.kill()
        await server.wait()
        await eventually(lambda: output.state is not OutputState.LIVE, what="the end of the far end")
        sending.cancel()


@pytest.mark.asyncio
async def test_a_far_end_that_stops_reading_holds_nobody_up(tmp_path: Path) -> None:
    accepted = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        await asyncio.sleep(60)

    server = await asyncio.start_server(take, "127.0.0.1", 0, limit=1)
    port = server.sockets[0].getsockname()[1]
    async with running(f"rtmp://127.0.0.1:{port}/live/key") as output:
        began = time.monotonic()
        await send(output, frames(4), speed=4)
        assert time.monotonic() - began < 4
        assert output.state is OutputState.CONNECTING
        assert len(output.queue) < 2_001
        closing = time.monotonic()
        pid = output.pid
    assert time.monotonic() - closing < 20
    assert pid is not None
    assert not Path(f"/proc/{pid}").exists()
    for writer in accepted:
        writer.close()
    server.close()


@pytest.mark.asyncio
async def test_another_size_and_sound_that_comes_late_begin_another_file(tmp_path: Path) -> None:
    async with running(f"file:{tmp_path}/{{stream}}.mp4") as output:
        await send(output, frames(6, sound=False), speed=4)
        await send(output, frames(3, start=16), speed=4)
        await send(output, frames(2, start=19, width=320), speed=4)
    assert output.error == ""
    found = [await probed(tmp_path / name) for name in ("cam.mp4", "cam-1.mp4", "cam-2.mp4")]
    assert ["audio" in one for one in found] == [False, True, True]
    assert sum(one["video"]["packets"] for one in found) == 11 * FPS


@pytest.mark.asyncio
async def test_a_file_whose_process_is_killed_can_be_read_to_its_last_second(tmp_path: Path) -> None:
    async with running(f"file:{tmp_path}/{{stream}}.mp4") as output:
        await send(output, frames(6), speed=1.5)
        pid = output.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: output.restarts == 1, what="the end of the process")
        found = await probed(tmp_path / "cam.mp4")
        await send(output, frames(3, start=20), speed=1.5)
    assert 16.0 - 10.0 - (found["video"]["end"] - found["video"]["start"]) < 1.5
    assert abs(found["video"]["end"] - found["audio"]["end"]) < 1.1
    assert (await probed(tmp_path / "cam-1.mp4"))["video"]["packets"] > FPS
