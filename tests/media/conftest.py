"""Coded pictures and sound made once by real encoders (x264 and libopus through PyAV)."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import av
import pytest

from gateway.media.frames import AccessUnit, Frame, OpusPacket
from gateway.media.h264 import NalType, nal_type, split_annex_b

TICKS = Fraction(1, 90_000)
STEP = 3_000


@dataclass
class Sample:
    """What encoders gave, in 90 kHz, and an MPEG-TS file that FFmpeg made of it."""

    video: list[AccessUnit]
    audio: list[OpusPacket] = field(default_factory=list)
    ts: bytes = b""

    @property
    def frames(self) -> list[Frame]:
        """Video and audio in one order of time, video first where equal."""
        both: list[Frame] = [*self.video, *self.audio]
        return sorted(both, key=lambda f: (f.dts, 0) if isinstance(f, AccessUnit) else (f.pts, 1))


MakeSample = Callable[..., Sample]


@pytest.fixture(scope="session")
def make_sample() -> MakeSample:
    made: dict[tuple[object, ...], Sample] = {}

    def make(
        count: int = 60,
        *,
        bframes: int = 0,
        gop: int = 30,
        size: tuple[int, int] = (160, 120),
        audio: str = "",
        quality: int = 30,
        x264: str = "",
    ) -> Sample:
        key = (count, bframes, gop, size, audio, quality, x264)
        if key not in made:
            made[key] = _encode(count, bframes, gop, size, audio, quality, x264)
        return made[key]

    return make


def _encode(
    count: int, bframes: int, gop: int, size: tuple[int, int], audio: str, quality: int, x264: str
) -> Sample:
    sample = Sample([])
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        video = container.add_stream("libx264", rate=30)
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        video.gop_size = gop
        video.codec_context.max_b_frames = bframes
        video.options = {"preset": "veryfast", "crf": str(quality), "sc_threshold": "0", "bf": str(bframes)}
        if x264:
            video.options |= {"x264-params": x264}
        sound = container.add_stream(audio, rate=48_000) if audio else None
        if sound is not None:
            sound.layout = "stereo"
        packets = []
        for index in range(count):
            picture = av.VideoFrame(*size, "yuv420p")
            for number, plane in enumerate(picture.planes):
                plane.update(_texture(plane.buffer_size, plane.line_size, index * (3 - number)))
            picture.pts, picture.time_base = index, Fraction(1, 30)
            packets += video.encode(picture)
        packets += video.encode(None)
        if sound is not None:
            packets += _encode_sound(sound, count)
        packets.sort(key=lambda packet: packet.dts * packet.time_base)
        for packet in packets:
            _record(sample, packet, sound)
            container.mux(packet)
    sample.ts = file.getvalue()
    return sample


def _texture(size: int, line: int, shift: int) -> bytes:
    row = bytes((x * 5 + shift * 7) % 219 + 16 for x in range(line))
    rows = [row[y % line :] + row[: y % line] for y in range(size // line)]
    return b"".join(rows).ljust(size, b"\x80")


def _encode_sound(stream: av.AudioStream, pictures: int) -> list[av.Packet]:
    packets = []
    samples = 1024 if stream.name == "aac" else 960
    for start in range(0, pictures * 1_600, samples):
        frame = av.AudioFrame(format=stream.format.name, layout="stereo", samples=samples)
        wave = [math.sin((start + n) / 20) * 0.4 for n in range(samples)]
        if stream.format.name.startswith("s16"):
            data = struct.pack(f"<{2 * samples}h", *(int(v * 32767) for v in wave for _ in range(2)))
        else:
            data = struct.pack(f"<{samples}f", *wave)
        for plane in frame.planes:
            plane.update(data[: plane.buffer_size].ljust(plane.buffer_size, b"\0"))
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _record(sample: Sample, packet: av.Packet, sound: av.AudioStream | None) -> None:
    scale = packet.time_base / TICKS
    pts, dts = round(packet.pts * scale), round(packet.dts * scale)
    if sound is not None and packet.stream is sound:
        sample.audio.append(OpusPacket(bytes(packet), pts))
        return
    nals = [nal for nal in split_annex_b(bytes(packet)) if nal_type(nal) != NalType.AUD]
    sample.video.append(AccessUnit(nals, pts, dts, packet.is_keyframe))
