"""Pictures for runners: small MPEG-TS segments made by FFmpeg, and looking at what came back."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
from av.audio.resampler import AudioResampler
from av.video.codeccontext import VideoCodecContext

FPS = 30
TICK = Fraction(1, 90_000)
FRAME_TICKS = 90_000 // FPS
LEFT, RIGHT, U, V = 60, 180, 100, 150
"""Luma of the picture's halves, and its chroma."""


@dataclass
class TsSegment:
    """One segment frame by frame: tables and first frame together."""

    frames: list[bytes] = field(default_factory=list)
    pts: list[int] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    """SHA-256 of the slices that the encoder made."""

    @property
    def data(self) -> bytes:
        return b"".join(self.frames)


def make_segments(
    count: int,
    *,
    gop: int = FPS,
    size: tuple[int, int] = (320, 176),
    first_pts: int = 1_000_000,
    sound: bool = False,
) -> list[TsSegment]:
    """`count` segments of one GOP each, of a picture whose left half is dark and right half light."""
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = *size, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.bit_rate = TICK, Fraction(FPS), 800_000
    encoder.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "x264-params": f"scenecut=0:keyint={gop}:min-keyint={gop}:repeat-headers=1",
    }
    segments = []
    for number in range(count):
        file = io.BytesIO()
        options = {
            "mpegts_copyts": "1",
            "flush_packets": "1",
            "max_interleave_delta": "1",
            "avoid_negative_ts": "disabled",
        }
        container = av.open(file, "w", format="mpegts", options=options)
        video = container.add_mux_stream("h264", width=size[0], height=size[1], time_base=TICK)
        opus = _Opus(container) if sound else None
        segment = TsSegment()
        for index in range(number * gop, (number + 1) * gop):
            pts = first_pts + index * FRAME_TICKS
            for packet in encoder.encode(_picture(size, pts)):
                segment.pts.append(pts)
                segment.hashes += slice_hashes(bytes(packet))
                packet.stream = video
                packet.pts = packet.dts = pts
                container.mux(packet)
            if opus is not None:
                opus.write(pts)
            _take_frame(file, segment)
        container.close()
        segment.frames[-1] += file.getvalue()
        segments.append(segment)
    return segments


def slice_hashes(annex_b: bytes) -> list[str]:
    """SHA-256 of each slice in an Annex B access unit."""
    nals = [part.rstrip(b"\0") for part in annex_b.split(b"\0\0\1")[1:]]
    return [hashlib.sha256(nal).hexdigest() for nal in nals if nal and 1 <= nal[0] & 31 <= 5]


def _take_frame(file: io.BytesIO, segment: TsSegment) -> None:
    segment.frames.append(file.getvalue())
    file.seek(0)
    file.truncate()


def _picture(size: tuple[int, int], pts: int) -> av.VideoFrame:
    frame = av.VideoFrame(*size, "yuv420p")
    luma, u, v = frame.planes
    half = size[0] // 2
    row = (bytes([LEFT]) * half + bytes([RIGHT]) * (size[0] - half)).ljust(luma.line_size, b"\0")
    luma.update(row * luma.height)
    u.update(bytes([U]) * u.buffer_size)
    v.update(bytes([V]) * v.buffer_size)
    frame.pts, frame.time_base = pts, TICK
    return frame


class _Opus:
    """20 ms packets of silence beside the pictures."""

    def __init__(self, container: Any) -> None:
        self._container = container
        self._stream = container.add_stream("libopus", rate=48_000)
        self._resampler = AudioResampler(format="s16", layout="stereo", rate=48_000, frame_size=960)

    def write(self, pts: int) -> None:
        frame = av.AudioFrame(format="s16", layout="stereo", samples=960)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts, frame.time_base = 48_000, pts * 48_000 // 90_000, Fraction(1, 48_000)
        for packet in self._stream.encode(frame):
            self._container.mux(packet)


@dataclass
class Pictures:
    """What a decoder makes of one segment."""

    pts: list[int] = field(default_factory=list)
    pixels: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Luma in the middle of the left half and of the right half, U and V there."""
    sizes: list[tuple[int, int]] = field(default_factory=list)
    sound_pts: list[int] = field(default_factory=list)


def look(data: bytes) -> Pictures:
    """Decode a segment on its own."""
    seen = Pictures()
    with av.open(io.BytesIO(data), "r", format="mpegts") as container:
        for packet in container.demux():
            if packet.stream.type == "audio" and packet.pts is not None:
                seen.sound_pts.append(packet.pts)
            elif packet.stream.type == "video":
                for frame in packet.decode():
                    assert isinstance(frame, av.VideoFrame)
                    seen.pts.append(frame.pts or 0)
                    seen.sizes.append((frame.width, frame.height))
                    seen.pixels.append(_pixels(frame))
    return seen


def _pixels(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    luma, u, v = (bytes(plane) for plane in frame.planes)
    line, chroma_line = frame.planes[0].line_size, frame.planes[1].line_size
    middle, chroma = line * (frame.height // 2), chroma_line * (frame.height // 4) + frame.width // 8
    return luma[middle + frame.width // 4], luma[middle + frame.width * 3 // 4], u[chroma], v[chroma]


def near(pixels: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """The same but for what a codec loses."""
    return all(abs(a - b) <= 4 for a, b in zip(pixels, expected, strict=True))


NEGATIVE = (255 - LEFT, 255 - RIGHT, 255 - U, 255 - V)
MIRROR = (RIGHT, LEFT, U, V)
GREY = (LEFT, RIGHT, 128, 128)
UNCHANGED = (LEFT, RIGHT, U, V)
EXPECTED = {"negative": NEGATIVE, "mirror": MIRROR, "grey": GREY, "none": UNCHANGED}


class Shelf:
    """A sink that keeps segments; `wait_for` blocks until they are as wanted."""

    def __init__(self) -> None:
        self.segments: list[bytes] = []
        self._changed = threading.Condition()

    def open_segment(self) -> None:
        with self._changed:
            self.segments.append(b"")

    def write(self, data: bytes) -> None:
        with self._changed:
            self.segments[-1] += data
            self._changed.notify_all()

    def close_segment(self) -> None:
        pass

    def wait_for(self, condition: Callable[[], bool], timeout: float = 10) -> bool:
        """Wait until `condition` holds, looked at after each write and every so often."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not condition():
                if time.monotonic() > deadline:
                    return False
                self._changed.wait(0.02)
        return True
