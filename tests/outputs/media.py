"""Pictures and sound for outputs, and FFmpeg as the far end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av

from gateway.clients.pattern import encoded_pattern
from gateway.media.frames import TICKS_PER_SECOND, AccessUnit, Frame, OpusPacket
from gateway.media.h264 import NalType, nal_type, split_annex_b
from gateway.media.ts_muxer import TsMuxer

FPS = 30
PACKET_S = 0.02
DEADLINE = 30.0


@lru_cache(maxsize=1)
def opus_packets() -> list[bytes]:
    """A second of silence."""
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "stereo", "s16"
    encoder.time_base = Fraction(1, 48_000)
    packets = []
    for number in range(52):
        frame = av.AudioFrame(format="s16", layout="stereo", samples=960)
        frame.sample_rate, frame.pts, frame.time_base = 48_000, number * 960, Fraction(1, 48_000)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets[:50]


def frames(seconds: float, *, sound: bool = True, width: int = 160, start: float = 10.0) -> Iterator[Frame]:
    """Pictures at FPS with a key frame each second, and Opus between them."""
    pictures = encoded_pattern(width, 120, seconds=1)
    heard = 0
    for number in range(int(seconds * FPS)):
        at = int((start + number / FPS) * TICKS_PER_SECOND)
        nals = [
            nal for nal in split_annex_b(pictures[number % len(pictures)]) if nal_type(nal) != NalType.AUD
        ]
        yield AccessUnit(nals, at, at, number % FPS == 0)
        while sound and heard * PACKET_S <= number / FPS:
            pts = int((start + heard * PACKET_S) * TICKS_PER_SECOND)
            yield OpusPacket(opus_packets()[heard % 50], pts)
            heard += 1


def transport_stream(seconds: float, *, sound: bool = True) -> bytes:
    muxer = TsMuxer()
    pieces = []
    for frame in frames(seconds, sound=sound):
        if isinstance(frame, AccessUnit) and frame.key:
            pieces.append(muxer.tables(audio=sound))
        pieces.append(muxer.frame(frame))
    return b"".join(pieces)


async def probed(path: Path) -> dict[str, dict[str, Any]]:
    """What FFprobe finds in a file: by kind of stream, its codec, packets, start and end in seconds."""
    process = await asyncio.create_subprocess_exec(
        *("ffprobe", "-hide_banner", "-loglevel", "error", "-of", "json", "-show_streams", "-show_packets"),
        str(path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), DEADLINE)
    said = json.loads(out)
    found: dict[str, dict[str, Any]] = {}
    for stream in said["streams"]:
        times = [float(p["pts_time"]) for p in said["packets"] if p["stream_index"] == stream["index"]]
        found[stream["codec_type"]] = {
            "codec": stream["codec_name"],
            "packets": len(times),
            "start": min(times),
            "end": max(times),
            "gap": max(b - a for a, b in zip(sorted(times), sorted(times)[1:], strict=False)),
        }
    return found


async def far_end(*arguments: str) -> asyncio.subprocess.Process:
    """An FFmpeg that takes a stream, as a server."""
    return await asyncio.create_subprocess_exec(
        *("ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-y", *arguments),
        stderr=asyncio.subprocess.DEVNULL,
    )
