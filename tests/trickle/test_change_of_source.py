"""Two channels one after the other, as a job and the one that replaces it: one stream to the viewers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from gateway.aio.tasks import cancel, spawn
from gateway.media.fanout import Fanout
from gateway.media.frames import AccessUnit, Frame, OpusPacket
from gateway.media.h264 import has_idr, split_annex_b
from gateway.media.segmenter import Segmenter
from gateway.media.ts_demuxer import TsDemuxer
from gateway.trickle.errors import ChannelClosed
from gateway.trickle.publisher import TricklePublisher
from gateway.trickle.subscriber import TrickleSubscriber
from harness.waiting import DEADLINE
from harness.webrtc import encoded_pattern

STEP = 3000
OPUS = b"\xfc" + bytes(20)


class Viewer:
    def __init__(self) -> None:
        self.video: list[int] = []
        self.audio: list[int] = []

    def send_video(self, payloads: Sequence[bytes], timestamp: int, key: bool) -> None:
        self.video.append(timestamp)

    def send_audio(self, payload: bytes, timestamp: int) -> None:
        self.audio.append(timestamp)

    def congested(self) -> bool:
        return False


def frames(first: int) -> list[Frame]:
    """Two seconds of picture and sound whose times begin at `first`."""
    made: list[Frame] = []
    for number, unit in enumerate(encoded_pattern(seconds=2)):
        nals = split_annex_b(unit)
        time = first + number * STEP
        made.append(AccessUnit(nals, time, time, has_idr(nals)))
        made.append(OpusPacket(OPUS, time + 10))
    return made


async def publish(http: aiohttp.ClientSession, url: str, source: list[Frame]) -> None:
    publisher = TricklePublisher(http, url)
    running = spawn(publisher.run(), name="test publisher")
    segmenter = Segmenter(publisher.open_segment, audio=True, min_duration=0)
    for frame in source:
        segmenter.push(frame)
        await asyncio.sleep(0)
    segmenter.close()
    await publisher.close()
    await cancel(running)


async def relay(http: aiohttp.ClientSession, url: str, output: Fanout) -> None:
    demuxer, subscriber = TsDemuxer(), TrickleSubscriber(http, url, start=0)
    try:
        async for segment in subscriber.segments():
            async for chunk in segment.chunks():
                for frame in demuxer.feed(chunk):
                    output.push(frame)
            for frame in demuxer.flush():
                output.push(frame)
    except ChannelClosed:
        await subscriber.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(("first", "second"), [(10**6, 5000), (5000, 10**9), (2**33 - 40 * STEP, 5000)])
async def test_times_rise_over_a_change_of_channel_whatever_their_clocks(
    http: aiohttp.ClientSession, served: Any, first: int, second: int
) -> None:
    output, viewer = Fanout(), Viewer()
    output.add(viewer)
    for name, begins in (("one", first), ("two", second)):
        output.new_source()
        url = served.channel(name)
        reading = spawn(relay(http, url, output), name="test relay")
        await publish(http, url, frames(begins))
        await asyncio.wait_for(reading, DEADLINE)
    assert len(viewer.video) == 120
    assert all(later > earlier for earlier, later in pairwise(viewer.video))
    assert all(later > earlier for earlier, later in pairwise(viewer.audio))
    assert len(viewer.audio) > 110
    steps = [later - earlier for earlier, later in pairwise(viewer.video)]
    assert {step for at, step in enumerate(steps) if at != 59} == {STEP}
