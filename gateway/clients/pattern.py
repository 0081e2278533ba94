"""A moving test picture as H.264: the left half bright, the right half dark, and a bar that moves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from typing_extensions import override

FPS = 30
CLOCK = 90_000
BRIGHT, DARK, BAR = bytes((210, 210, 210)), bytes((40, 40, 40)), bytes((200, 60, 60))
"""RGB."""


@lru_cache(maxsize=8)
def encoded_pattern(width: int = 320, height: int = 240, seconds: int = 4, gop_s: float = 1.0) -> list[bytes]:
    """Its access units in Annex B, to be repeated: the first has a key frame with its parameter sets."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(FPS), Fraction(1, FPS)
    encoder.bit_rate = width * height * 10
    encoder.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "profile": "baseline",
        "x264-params": f"keyint={int(FPS * gop_s)}:min-keyint={int(FPS * gop_s)}:scenecut=0:repeat-headers=1",
    }
    units = []
    for number in range(FPS * seconds):
        frame = picture(width, height, number / (FPS * seconds))
        frame.pts = number
        units += [bytes(packet) for packet in encoder.encode(frame)]
    return units


def picture(width: int, height: int, position: float) -> av.VideoFrame:
    """One picture in RGB; the bar stands at `position`, from 0 to 1."""
    row = BRIGHT * (width // 2) + DARK * (width - width // 2)
    left = int(position * width)
    right = min(width, left + width // 10)
    with_bar = row[: 3 * left] + BAR * (right - left) + row[3 * right :]
    frame = av.VideoFrame(width, height, "rgb24")
    plane = frame.planes[0]
    rows = (with_bar if height // 3 <= y < height // 2 else row for y in range(height))
    plane.update(b"".join(one.ljust(plane.line_size, b"\0") for one in rows))
    return frame


class PatternTrack(MediaStreamTrack):
    """A video track of access units that are encoded already, at their pace, again and again."""

    kind = "video"
    TIME_BASE = Fraction(1, CLOCK)

    def __init__(self, units: Sequence[bytes]) -> None:
        super().__init__()
        self._units = units
        self._number = 0
        self._started = 0.0

    @override
    async def recv(self) -> av.Packet[Any]:
        if self.readyState != "live":
            raise MediaStreamError
        self._started = self._started or time.monotonic()
        # even when late: a sender that never waits keeps the event loop for itself, time limits included
        await asyncio.sleep(max(0.0, self._started + self._number / FPS - time.monotonic()))
        packet = av.Packet(self._units[self._number % len(self._units)])
        packet.pts = packet.dts = self._number * CLOCK // FPS
        packet.time_base = self.TIME_BASE
        self._number += 1
        return packet
