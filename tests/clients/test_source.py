"""Files are read as tracks."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError

from gateway.clients.pattern import picture
from gateway.clients.session import ClientFailed
from gateway.clients.source import MediaSource
from harness.waiting import within

SECONDS = 1
RATE = 30


def write(
    path: Path, codec: str = "libx264", options: dict[str, str] | None = None, *, sound: bool = False
) -> str:
    """A second of the pattern."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(codec, rate=RATE)
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        video.options = options or {}
        audio: Any = container.add_stream("aac", rate=48_000) if sound else None
        for number in range(SECONDS * RATE):
            container.mux(video.encode(picture(320, 240, number / RATE)))
        if audio is not None:
            for number in range(SECONDS * 48_000 // 1024):
                piece = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
                piece.sample_rate, piece.pts = 48_000, number * 1024
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
        container.mux(video.encode(None))
    return str(path)


async def pictures_of(source: MediaSource, count: int) -> tuple[list[Fraction], int]:
    """The times of the first pictures, and how many of them decode."""
    decoder, times, decoded = av.CodecContext.create("h264", "r"), [], 0
    for _ in range(count):
        packet = await within(source.video.recv(), what="a picture")
        times.append(packet.pts * packet.time_base)
        decoded += len(decoder.decode(av.Packet(bytes(packet))))
    return times, decoded


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("as-it-is.mp4", "libx264", {"bf": "0", "tune": "zerolatency"}),
        ("as-it-is.ts", "libx264", {"bf": "0", "tune": "zerolatency"}),
        ("b-frames.mp4", "libx264", {"bf": "2"}),
        ("other.mkv", "mpeg4", {}),
    ],
)
@pytest.mark.asyncio
async def test_every_kind_of_picture_comes_as_h264_at_its_pace(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    source = MediaSource(write(tmp_path / name, codec, options))
    source.start()
    try:
        times, decoded = await pictures_of(source, 20)
    finally:
        await source.close()
    assert times[0] == 0
    steps = {round(1000 * (later - earlier)) for earlier, later in pairwise(times)}
    assert steps <= {33, 34}
    assert decoded >= 18  # the decoder holds one or two back


@pytest.mark.asyncio
async def test_a_loop_goes_on_in_time(tmp_path: Path) -> None:
    source = MediaSource(write(tmp_path / "short.mp4", options={"bf": "0", "tune": "zerolatency"}), loop=True)
    source.start()
    try:
        times, decoded = await pictures_of(source, 2 * RATE)
    finally:
        await source.close()
    assert all(0 < later - earlier < Fraction(1, 10) for earlier, later in pairwise(times))
    assert decoded >= 2 * RATE - 2


@pytest.mark.asyncio
async def test_sound_comes_in_pieces_that_follow_each_other(tmp_path: Path) -> None:
    source = MediaSource(write(tmp_path / "sound.mp4", sound=True))
    source.start()
    assert source.audio is not None
    try:
        pieces = [await within(source.audio.recv(), what="sound") for _ in range(20)]
    finally:
        await source.close()
    assert {(piece.sample_rate, piece.samples) for piece in pieces} == {(48_000, 960)}
    times = [piece.pts * piece.time_base for piece in pieces]
    assert {later - earlier for earlier, later in pairwise(times)} == {Fraction(1, 50)}


@pytest.mark.asyncio
async def test_the_end_of_a_file_ends_its_tracks(tmp_path: Path) -> None:
    source = MediaSource(write(tmp_path / "short.mp4"))
    source.start()
    times, _ = await pictures_of(source, SECONDS * RATE)
    with pytest.raises(MediaStreamError):
        await within(source.video.recv(), what="the end")
    assert source.video.readyState == "ended"
    assert len(times) == SECONDS * RATE
    await source.close()


@pytest.mark.asyncio
async def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ClientFailed, match=r"text\.mp4 cannot be read"):
        MediaSource(str(tmp_path / "text.mp4"))
    with pytest.raises(ClientFailed, match=r"none\.mp4 cannot be read"):
        MediaSource(str(tmp_path / "none.mp4"))
