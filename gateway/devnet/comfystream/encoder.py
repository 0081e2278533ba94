"""aiortc's H.264 encoder, made cheap enough for many streams on one machine."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import aiortc.codecs
import av
from aiortc.codecs import h264
from av.video.codeccontext import VideoCodecContext
from typing_extensions import override

BIT_RATE = 2_000_000
"""Bits a second that ComfyStream sets its encoder to after the first estimate."""


class QuickH264Encoder(h264.H264Encoder):
    """With x264's fastest preset: aiortc's own, medium, takes a whole core for one 720p30."""

    @override
    def _encode_frame(self, frame: av.VideoFrame, force_keyframe: bool) -> Iterator[bytes]:
        size, rate = (frame.width, frame.height), self.target_bitrate
        former = self.codec
        if former is None or ((former.width, former.height), former.bit_rate) != (size, rate):
            self.codec = _codec(*size, rate)
        yield from super()._encode_frame(frame, force_keyframe)


def _codec(width: int, height: int, bit_rate: int) -> VideoCodecContext:
    codec = av.CodecContext.create("libx264", "w")
    assert isinstance(codec, VideoCodecContext)
    codec.width, codec.height, codec.bit_rate = width, height, bit_rate
    codec.pix_fmt = "yuv420p"
    codec.framerate = Fraction(h264.MAX_FRAME_RATE)
    codec.time_base = 1 / codec.framerate
    codec.options = {"preset": "ultrafast", "tune": "zerolatency", "level": "31"}
    codec.profile = "Baseline"
    return codec


def use_in_aiortc() -> None:
    """Have aiortc encode with it, at ComfyStream's rate, in this process."""
    h264.MAX_BITRATE = h264.MIN_BITRATE = BIT_RATE
    aiortc.codecs.H264Encoder = QuickH264Encoder  # type: ignore[attr-defined]
