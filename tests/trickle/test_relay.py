"""When a relay asks for a key frame: segments of 1 to 3 s with an encoder that listens."""

from __future__ import annotations

from itertools import pairwise

import aiohttp
import pytest
import structlog

from gateway.media.frames import TICKS_PER_SECOND, AccessUnit
from gateway.media.gop import GopBuffer
from gateway.media.h264 import split_annex_b
from gateway.trickle.relay import ASK_SELDOM, ASK_SELDOM_AFTER, KEY_FRAME_AFTER, Relay
from harness.webrtc import encoded_pattern

FPS = 30
UNITS = [split_annex_b(unit) for unit in encoded_pattern(64, 64, seconds=1)]


class Encoder:
    """Pictures at 30 a second by a clock of its own, and when it was asked for key frames."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.now = 100.0
        self.asked: list[float] = []
        self.listens = True
        self.wanted = True
        self._relay = Relay(
            http, "http://127.0.0.1:9/in", "http://127.0.0.1:9/out", self._ask, structlog.get_logger(),
            clock=lambda: self.now,
        )  # fmt: skip
        self._relay.begin(GopBuffer())

    def _ask(self) -> None:
        self.asked.append(self.now)
        self.wanted = self.listens

    def run(self, seconds: float) -> int:
        """Make pictures for so long. Returns how many segments they are."""
        before = self._relay.uplink.segments
        for _ in range(int(seconds * FPS)):
            key, self.wanted = self.wanted, False
            pts = int(self.now * TICKS_PER_SECOND)
            self._relay.push(AccessUnit(UNITS[0] if key else UNITS[1], pts, pts, key))
            self.now += 1 / FPS
        return self._relay.uplink.segments - before


@pytest.mark.asyncio
async def test_an_encoder_that_listens_makes_segments_of_two_seconds(http: aiohttp.ClientSession) -> None:
    encoder = Encoder(http)
    assert 85 <= encoder.run(180) <= 90
    assert all(KEY_FRAME_AFTER <= later - earlier < 3 for earlier, later in pairwise(encoder.asked))


@pytest.mark.asyncio
async def test_an_encoder_with_short_groups_is_not_asked(http: aiohttp.ClientSession) -> None:
    encoder = Encoder(http)
    for _ in range(10):
        encoder.wanted = True
        encoder.run(1.5)
    assert encoder.asked == []


@pytest.mark.asyncio
async def test_one_that_does_not_listen_is_asked_ever_less(http: aiohttp.ClientSession) -> None:
    encoder = Encoder(http)
    encoder.listens = False
    began = encoder.now
    assert encoder.run(20) == 1
    early = [at for at in encoder.asked if at - began < ASK_SELDOM_AFTER]
    assert 3 <= len(early) <= 5
    assert all(
        later - earlier >= ASK_SELDOM - 0.1 for earlier, later in pairwise(encoder.asked[len(early) + 1 :])
    )
