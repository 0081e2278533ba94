"""FFmpeg reads what the gateway relays, over HTTP from the trickle channels of a running devnet."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, pairwise
from pathlib import Path

import aiohttp
import av
import pytest

from harness.ffmpeg_reader import Read, channels, read_segment
from harness.gateway import gateway_process
from harness.waiting import DEADLINE, eventually
from harness.webrtc import FPS, WhepViewer, WhipPublisher

GOP = FPS
"""The pattern has a key frame a second."""
READ_SEGMENTS = 3


async def next_segment(http: aiohttp.ClientSession, channel: str) -> int:
    """The number of the segment that begins next, as the server tells it."""
    async with http.get(f"{channel}/-1", ssl=False) as response:
        assert response.status == 200
        return int(response.headers["Lp-Trickle-Seq"]) + 1


def read_one_by_one(channel: str, first: int) -> list[Read]:
    """Each segment by itself, the newest while it is written."""
    return [read_segment(f"{channel}/{number}") for number in range(first, first + READ_SEGMENTS)]


class Pipe:
    """Bytes from the event loop to a reader that blocks in a thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._bytes = bytearray()
        self._ended = False

    def write(self, data: bytes) -> None:
        with self._changed:
            self._bytes += data
            self._changed.notify()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()

    def read(self, size: int) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._bytes or self._ended, timeout=30)
            data = bytes(self._bytes[:size])
            del self._bytes[:size]
            return data


@contextmanager
def ended(pipe: Pipe) -> Iterator[Pipe]:
    try:
        yield pipe
    finally:
        pipe.end()


async def read_end_to_end(http: aiohttp.ClientSession, channel: str, first: int) -> tuple[Read, list[float]]:
    """Segments laid end to end, byte by byte as they come, read as one live stream; when each had ended."""
    ends: list[float] = []
    pipe = Pipe()

    def read() -> Read:
        with av.open(pipe, format="mpegts", options={"probesize": "20000"}) as container:
            container.streams.video[0].codec_context.thread_count = 1
            return Read().take(container)

    reading = asyncio.get_running_loop().run_in_executor(None, read)
    with ended(pipe):
        for number in range(first, first + READ_SEGMENTS):
            async with http.get(f"{channel}/{number}", ssl=False) as response:
                assert response.status == 200
                async for chunk in response.content.iter_any():
                    pipe.write(chunk)
            ends.append(time.monotonic())
    return await asyncio.wait_for(reading, DEADLINE), ends


@pytest.mark.asyncio
async def test_ffmpeg_reads_live_segments_as_they_come_and_each_by_itself(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with (
        gateway_process(tmp_path, "-effect", "none") as gateway,
        WhepViewer(http, gateway.live("cam/whep")) as viewer,
        WhipPublisher(http, gateway.live("cam/whip"), audio=True),
    ):
        await eventually(lambda: viewer.frames > GOP, what="the picture")
        for channel in await channels(gateway, "cam"):
            first = await next_segment(http, channel)
            alone = asyncio.to_thread(read_one_by_one, channel, first)
            segments, (live, ends) = await asyncio.gather(alone, read_end_to_end(http, channel, first))
            for segment in segments:
                # a second each by both clocks, or two where the key frame came a moment too early
                assert (len(segment.pictures), segment.sizes) == (GOP * segment.keys, {(320, 240)})
                assert segment.sound
            one_by_one = [at for segment in segments for at in segment.pictures]
            # A publisher may be late with its sound: it stands in the segment that is written then.
            sound = [at for segment in segments for at in segment.sound]
            assert {round((b - a) * 1000) for a, b in pairwise(sound)} <= {19, 20, 21}
            assert abs((sound[-1] - sound[0]) - (one_by_one[-1] - one_by_one[0])) < 1.0
            assert live.pictures == one_by_one, "what is read as it comes is all there is"
            assert {round((b - a) * 90_000) for a, b in pairwise(one_by_one)} == {90_000 // FPS}
            # Pictures come out while their segment is written: well before its end.
            last = accumulate(len(segment.pictures) for segment in segments)
            early = [end - live.came[at - GOP // 2] for at, end in zip(last, ends, strict=True)]
            assert sorted(early)[1] > 0.2
