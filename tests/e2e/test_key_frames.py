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
from gateway.webrtc.feedback import KEY_FRAME_SPACING
from harness.ffmpeg_reader import channels
from harness.gateway import GatewayProcess, gateway_process
from harness.insides import on_key_frame_request, request_key_frame
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
        self.listens = False
        """Whether a request makes one due."""
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
        on_key_frame_request(transceiver, lambda: self._note(publisher))

    def _note(self, publisher: WhipPublisher) -> None:
        self.times.append(time.monotonic())
        track = publisher.track
        if isinstance(track, OnDemand):
            track.due = track.due or track.listens


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
        await request_key_frame(transceiver, 1)
        await asyncio.sleep(0.05)


@pytest.mark.asyncio
async def test_a_publisher_that_sends_no_key_frame_by_itself_is_asked_for_segments_and_viewers_and_no_worker(
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

        async def note() -> str | None:
            ingest = (await gateway.status("cam"))["ingest"]
            return None if ingest["gop_note"] is None else str(ingest["gop_note"])

        async def noted() -> bool:
            return await note() is not None

        async def not_noted() -> bool:
            return await note() is None

        await eventually(too_much, deadline=40, what="more pictures than are held")
        await eventually(noted, what="what it means that the encoder does not listen")
        to_worker: list[Any] = []
        channel, _ = await channels(gateway, "cam")
        async with (
            meanwhile(messages(gateway, f"{channel}-control", to_worker)),
            WhepViewer(http, gateway.live("cam/whep")) as viewer,
            meanwhile(keep_asking(viewer)),
        ):
            before = len(asked.times)
            await eventually(lambda: len(asked.times) >= before + 2, what="requests while the viewer asks")
            assert viewer.frames == 0
            track.due = True
            await eventually(lambda: viewer.frames > FPS, what="the picture")
            track.listens = True
            await eventually(not_noted, what="an encoder that listens")
        assert all(b - a > KEY_FRAME_SPACING - EARLY for a, b in pairwise(asked.times))
        assert all(message == {"keep": "alive"} for message in to_worker)
