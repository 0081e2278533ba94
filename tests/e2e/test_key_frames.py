"""Key frames: who waits for one, who is asked, and how often."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import av
import pytest

from gateway.aio import tasks
from gateway.media.gop import MAX_GOP_ENTRIES
from gateway.webrtc.feedback import KEY_FRAME_EVERY
from harness.ffmpeg_reader import channels
from harness.gateway import GatewayProcess, gateway_process
from harness.waiting import eventually
from harness.webrtc import CLOCK, FPS, PatternTrack, WhepViewer, WhipPublisher, encoded_pattern

HURRY = 500
"""Pictures a second until there are more than the gateway holds for those who join."""
EARLY = 0.1
"""Seconds that a request may seem to be early by: the one before it was seen late."""


class OnDemand(PatternTrack):
    """A key frame first, and then whenever it is `due`: where nobody sees to that, never."""

    def __init__(self) -> None:
        super().__init__(encoded_pattern(seconds=10, gop_s=10))
        self.due = False
        self._next = 0
        self._ticks = 0

    async def recv(self) -> av.Packet:
        rate = HURRY if self.sent <= MAX_GOP_ENTRIES else FPS
        await asyncio.sleep(1 / rate)
        if self.due:
            self._next, self.due = 0, False
        packet = av.Packet(self._units[self._next])
        self._next = self._next % (len(self._units) - 1) + 1
        self._ticks += CLOCK // rate
        packet.pts = packet.dts = self._ticks
        packet.time_base = self.TIME_BASE
        self.sent += 1
        return packet


class Asked:
    """When the publisher was asked for a key frame."""

    def __init__(self, publisher: WhipPublisher) -> None:
        self.times: list[float] = []
        (transceiver,) = publisher.peer.getTransceivers()
        transceiver.sender._send_keyframe = lambda: self.times.append(time.monotonic())


@asynccontextmanager
async def meanwhile(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.get_running_loop().create_task(coroutine)
    try:
        yield
    finally:
        await tasks.cancel(task)


async def messages(gateway: GatewayProcess, channel: str, found: list[Any]) -> None:
    """Collect what is sent to a worker over its control channel."""
    number = -1
    while True:
        with suppress(TimeoutError):
            async with gateway.http.get(f"{channel}/{number}", ssl=False) as response:
                assert response.status == 200
                if text := await response.text():
                    found.append(json.loads(text))
                number = int(response.headers["Lp-Trickle-Seq"]) + 1


async def keep_asking(viewer: WhepViewer) -> None:
    (transceiver,) = viewer.peer.getTransceivers()
    while True:
        await transceiver.receiver._send_rtcp_pli(1)
        await asyncio.sleep(0.05)


@pytest.mark.asyncio
async def test_for_a_viewer_without_a_key_frame_the_publisher_is_asked_every_two_seconds_and_no_worker(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    track = OnDemand()
    async with (
        gateway_process(tmp_path, "-effect", "none") as gateway,
        WhipPublisher(http, gateway.live("cam/whip"), track=track) as publisher,
    ):
        asked = Asked(publisher)

        async def too_much() -> bool:
            return (
                track.sent > MAX_GOP_ENTRIES + FPS and (await gateway.get("debug/state"))["held_bytes"] == 0
            )

        await eventually(too_much, deadline=40, what="more pictures than are held")
        assert not asked.times, "nobody has needed one"
        to_worker: list[Any] = []
        channel, _ = await channels(gateway, "cam")
        async with (
            meanwhile(messages(gateway, f"{channel}-control", to_worker)),
            WhepViewer(http, gateway.live("cam/whep")) as viewer,
        ):
            joined = time.monotonic()
            await eventually(lambda: len(asked.times) == 2, what="a request, and another")
            async with meanwhile(keep_asking(viewer)):
                await eventually(lambda: len(asked.times) == 4, what="requests while the viewer asks too")
                assert viewer.frames == 0
                track.due = True
                await eventually(lambda: viewer.frames > FPS, what="the picture")
        assert asked.times[0] - joined < KEY_FRAME_EVERY
        assert all(b - a > KEY_FRAME_EVERY - EARLY for a, b in pairwise(asked.times))
        assert all(message == {"keep": "alive"} for message in to_worker)
