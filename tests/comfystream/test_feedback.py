"""The publisher follows the weaker of its two ways, and the server makes key frames for who joins."""

from __future__ import annotations

import pytest

from gateway.aio.tasks import cancel, spawn
from gateway.comfystream.feedback import keep_feeding_back
from gateway.comfystream.timing import ServerTiming
from gateway.webrtc.viewer import ViewerStats
from harness.waiting import eventually

HIGHEST = 8_000_000


class Way:
    """A connection that carries 1 kB between two looks and loses as much as it is told to."""

    audio_agreed = False

    def __init__(self) -> None:
        self.lost = 0.0
        self.bytes = 0
        self.limits: list[int | None] = []
        self.key_frames = 0
        self.size = None

    def sent(self) -> ViewerStats:
        self.bytes += 1_000
        return ViewerStats(
            packets=1, bytes=self.bytes, frames=1, resent=0, key_frames_asked=0, fraction_lost=self.lost
        )

    def request_key_frame(self) -> None:
        self.key_frames += 1

    def limit_bitrate(self, bits_per_second: int | None) -> None:
        self.limits.append(bits_per_second)


@pytest.mark.asyncio
async def test_the_publishers_rate_falls_with_loss_on_the_way_to_the_server_and_rises_again() -> None:
    way, timing = Way(), ServerTiming(report_interval=0.005, key_frame_interval=0.02)
    task = spawn(keep_feeding_back(way, way, HIGHEST, timing), name="test feedback")
    try:
        await eventually(lambda: len(way.limits) > 2, every=0.001, what="a way without loss")
        assert set(way.limits) == {HIGHEST}
        way.lost = 0.5
        await eventually(lambda: (way.limits[-1] or 0) < HIGHEST / 2, every=0.001, what="a lower rate")
        way.lost = 0.0
        await eventually(lambda: way.limits[-1] == HIGHEST, every=0.001, what="the full rate")
        await eventually(lambda: way.key_frames > 1, every=0.001, what="key frames")
    finally:
        await cancel(task)
