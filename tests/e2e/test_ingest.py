"""Unusual publishers: other clocks, a new size in mid-stream, B-frames."""

from __future__ import annotations

import fractions
from collections.abc import AsyncIterator
from io import BytesIO
from itertools import pairwise
from typing import Any

import av
import numpy as np
import pytest
import pytest_asyncio

from harness.ffmpeg_reader import channels, read_segment
from harness.gateway import GatewayProcess, gateway_process
from harness.waiting import eventually
from harness.webrtc import FPS, PatternTrack, WhepViewer, WhipPublisher, encoded_pattern

pytestmark = pytest.mark.asyncio(loop_scope="module")
MEGAHERTZ = 1_000_000
SMALL, LARGE = (320, 240), (640, 480)


class Track(PatternTrack):
    """Pictures with times of their own, in ticks of `clock` a second, sent as if they were RTP's."""

    def __init__(self, packets: list[tuple[bytes, int]], clock: int) -> None:
        super().__init__([unit for unit, _ in packets])
        self._shown = [shown for _, shown in packets]
        self._clock = clock

    async def recv(self) -> av.Packet:
        number = self._number
        packet = await super().recv()
        rounds, place = divmod(number, len(self._shown))
        shown = rounds * len(self._shown) + self._shown[place]
        packet.pts = packet.dts = shown * self._clock // FPS
        return packet


def out_of_order() -> list[tuple[bytes, int]]:
    """Two seconds of pictures with two B-frames between others, each with its place in time."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = SMALL
    encoder.pix_fmt = "yuv420p"
    encoder.framerate, encoder.time_base = fractions.Fraction(FPS), fractions.Fraction(1, FPS)
    encoder.options = {
        "preset": "ultrafast",
        "profile": "main",
        "x264-params": f"bframes=2:b-adapt=0:keyint={FPS}:min-keyint={FPS}:scenecut=0:repeat-headers=1",
    }
    packets: list[av.Packet] = []
    for number in range(2 * FPS):
        frame = av.VideoFrame.from_ndarray(np.full((SMALL[1], SMALL[0], 3), 4 * number, np.uint8), "rgb24")
        frame.pts = number
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return [(bytes(packet), int(packet.pts)) for packet in packets]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    """One for all: each test has a stream of its own."""
    async with gateway_process(tmp_path_factory.mktemp("ingest"), "-effect", "none") as gateway:
        yield gateway


async def relayed(gateway: GatewayProcess, name: str) -> bytes:
    """A whole segment of the stream as it comes to the worker."""
    channel, _ = await channels(gateway, name)
    async with gateway.http.get(f"{channel}/-1", ssl=False) as response:
        assert response.status == 200
        return await response.read()


async def live(gateway: GatewayProcess, name: str, **wanted: Any) -> dict[str, Any]:
    async def so() -> dict[str, Any] | None:
        ingest = (await gateway.status(name))["ingest"] or {}
        return ingest if {**ingest, **wanted} == ingest else None

    return dict(await eventually(so, what=f"{wanted} in the status"))


async def test_a_publisher_whose_clock_runs_at_a_megahertz_is_relayed_at_its_true_rate(
    gateway: GatewayProcess,
) -> None:
    track = Track([(unit, number) for number, unit in enumerate(encoded_pattern(seconds=1))], MEGAHERTZ)
    async with (
        WhepViewer(gateway.http, gateway.live("clock/whep")) as viewer,
        WhipPublisher(gateway.http, gateway.live("clock/whip"), track=track),
    ):
        await eventually(lambda: viewer.frames > 2 * FPS, what="the picture")
        segment = read_segment(await relayed(gateway, "clock"))
        assert [b - a for a, b in pairwise(segment.pictures)] == [pytest.approx(1 / FPS, abs=0.002)] * (
            len(segment.pictures) - 1
        )
        # a second by the media's clock; two where the wall clock was a little behind it at the key frame
        assert len(segment.pictures) in (FPS, 2 * FPS)

        async def at_its_rate() -> bool:
            return bool((await live(gateway, "clock"))["fps"] == pytest.approx(FPS, rel=0.2))

        await eventually(at_its_rate, what="the rate in the status")


async def test_another_size_in_mid_stream_begins_a_segment_and_reaches_the_viewer(
    gateway: GatewayProcess,
) -> None:
    small, large = (encoded_pattern(*size, seconds=4, gop_s=2.0)[: 3 * FPS] for size in (SMALL, LARGE))
    async with (
        WhepViewer(gateway.http, gateway.live("size/whep")) as viewer,
        WhipPublisher(gateway.http, gateway.live("size/whip"), units=small + large),
    ):
        await eventually(lambda: viewer.size == SMALL, what="the first size")
        await live(gateway, "size", width=LARGE[0], height=LARGE[1])
        await eventually(lambda: viewer.size == LARGE, what="the other size")
        for _ in range(4):
            segment = read_segment(await relayed(gateway, "size"))
            assert (len(segment.sizes), segment.corrupt) == (1, 0)
        status = await gateway.status("size")
        assert (status["state"], status["swaps"], status["error"]) == ("live", 0, None)
        assert all(later > earlier for earlier, later in pairwise(viewer.pts))


async def test_b_frames_are_told_and_relayed_with_decoding_times_that_rise(
    gateway: GatewayProcess,
) -> None:
    track = Track(out_of_order(), 90_000)
    async with WhipPublisher(gateway.http, gateway.live("order/whip"), track=track):
        await live(gateway, "order", b_frames=True)
        segment = await relayed(gateway, "order")
        with av.open(BytesIO(segment), format="mpegts") as container:
            packets = [packet for packet in container.demux(video=0) if packet.dts is not None]
        assert all(later.dts > earlier.dts for earlier, later in pairwise(packets))
        assert any(later.pts < earlier.pts for earlier, later in pairwise(packets))
        assert all(packet.dts <= packet.pts for packet in packets)
        read = read_segment(segment)
        assert (read.corrupt, read.pictures) == (0, sorted(set(read.pictures)))
