"""The frames of the media path: whole coded pictures and sound packets.

All times are in ticks of 90 kHz (RFC 3551's video clock, MPEG-TS's PES clock), counted in plain
integers that never wrap: whoever reads a 32- or 33-bit field unwraps it, whoever writes one masks it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

TICKS_PER_SECOND = 90_000


@dataclass(slots=True)
class AccessUnit:
    """One coded H.264 picture (ITU-T H.264, 7.4.1.2.3).

    `nals` are its NAL units in decoding order without start codes or length fields and without
    access unit delimiters; SPS and PPS are among them where the encoder (or the reader before us)
    put them. `key` is true where decoding can start here: the picture is an IDR, or a recovery point of a
    publisher that sends none (from there on it takes a decoder some pictures to have whole ones).
    """

    nals: list[bytes]
    pts: int
    dts: int
    key: bool


@dataclass(slots=True)
class OpusPacket:
    """One Opus packet (RFC 6716), as RTP and MPEG-TS carry it."""

    data: bytes
    pts: int


Frame = AccessUnit | OpusPacket
FrameSink = Callable[[Frame], None]
"""Takes a frame. Never blocks, and never raises for a slow reader."""
