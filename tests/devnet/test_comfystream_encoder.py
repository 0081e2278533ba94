"""The encoder of the devnet's ComfyStream server."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import aiortc.codecs
import av
import numpy as np
import pytest
from aiortc.codecs import h264

from gateway.devnet.comfystream import encoder
from harness.webrtc import FPS


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[h264.H264Encoder]:
    for owner, name in ((h264, "MIN_BITRATE"), (h264, "MAX_BITRATE"), (aiortc.codecs, "H264Encoder")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    encoder.use_in_aiortc()
    made = aiortc.codecs.H264Encoder()
    made.target_bitrate = 1
    yield made


def picture(number: int, width: int = 640, height: int = 360) -> av.VideoFrame:
    noise = np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(noise, "rgb24").reformat(format="yuv420p")
    frame.pts, frame.time_base = number, Fraction(1, FPS)
    return frame


def is_key(payloads: list[bytes]) -> bool:
    """Whether a fragment (RFC 6184, 5.8) of an IDR slice is among them: noise makes no small pictures."""
    return any((payload[0] & 31, payload[1] & 31) == (28, 5) for payload in payloads)


def test_it_uses_the_fastest_preset(quick: h264.H264Encoder) -> None:
    payloads, _ = quick.encode(picture(0))
    assert b"subme=0" in b"".join(payloads)


def test_one_codec_goes_on_at_the_rate_that_comfystream_sets(quick: h264.H264Encoder) -> None:
    assert is_key(quick.encode(picture(0))[0])
    first = quick.codec
    assert first is not None and first.bit_rate == encoder.BIT_RATE
    assert not any(is_key(quick.encode(picture(number))[0]) for number in range(1, 4))
    assert is_key(quick.encode(picture(4), force_keyframe=True)[0])
    assert quick.codec is first


def test_another_size_begins_with_a_key_frame(quick: h264.H264Encoder) -> None:
    quick.encode(picture(0))
    assert is_key(quick.encode(picture(1, 320, 240))[0])
    assert quick.codec is not None and (quick.codec.width, quick.codec.height) == (320, 240)
