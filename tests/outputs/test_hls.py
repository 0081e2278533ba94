"""HLS: what FFmpeg writes read as fragments, the window of segments, and its playlist."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media.ts_muxer import TsMuxer
from gateway.outputs.ffmpeg import HLS_ARGUMENTS, MAX_FRAGMENT, hls_sound
from gateway.outputs.fragments import BadFragments, FragmentReader, Header, MovieFragment
from gateway.outputs.hls import KEPT, LISTED, HlsWindow
from tests.outputs.media import frames, probed, transport_stream


def header(number: int = 0) -> Header:
    return Header(b"header%d" % number, 1, 90_000, 3_000, "avc1.42c00c,mp4a.40.2")


def names(playlist: str) -> list[str]:
    return re.findall(r"^hls/(.*)$", playlist, re.MULTILINE)


def test_short_fragments_share_a_segment_and_names_are_never_used_again() -> None:
    window = HlsWindow(wall=lambda: 1_000.0)
    window.add(header())
    assert window.playlist() == ""
    seen: dict[str, bytes] = {}
    for number in range(40):
        window.add(MovieFragment(b"%d" % number, 0.5))
        for name in names(window.playlist()):
            data = window.file(name)
            assert data is not None
            assert seen.setdefault(name, data) == data
    assert len(seen) == 20
    text = window.playlist()
    assert len(names(text)) == LISTED
    assert "#EXT-X-MEDIA-SEQUENCE:14\n" in text
    assert "#EXTINF:1.000,\n" in text
    assert "#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:16:39.000Z" in text
    assert "# codecs=avc1.42c00c,mp4a.40.2\n" in text
    assert sum(window.file(name) is not None for name in seen) == KEPT


def test_another_process_is_a_discontinuity_that_is_counted_when_it_has_gone() -> None:
    window = HlsWindow()
    for part in range(2):
        window.add(header(part))
        for _ in range(3):
            window.add(MovieFragment(b"x", 1.0))
    text = window.playlist()
    assert (text.count("#EXT-X-MAP"), text.count("#EXT-X-DISCONTINUITY\n")) == (2, 1)
    assert "#EXT-X-DISCONTINUITY-SEQUENCE:0\n" in text
    for _ in range(LISTED):
        window.add(MovieFragment(b"x", 1.0))
    assert "#EXT-X-DISCONTINUITY-SEQUENCE:1\n" in window.playlist()
    for _ in range(KEPT):
        window.add(MovieFragment(b"x", 1.0))
    text = window.playlist()
    assert (text.count("#EXT-X-MAP"), "#EXT-X-DISCONTINUITY-SEQUENCE:1\n" in text) == (1, True)


@pytest.mark.asyncio
async def test_who_waits_for_a_segment_gets_it_when_it_is_there() -> None:
    window = HlsWindow()
    window.add(header())
    waiting = [asyncio.ensure_future(window.wait(0, 10)) for _ in range(3)]  # noqa: TID251
    await asyncio.sleep(0)
    window.add(MovieFragment(b"x", 1.0))
    assert await asyncio.gather(*waiting) == [True] * 3
    assert not await window.wait(1, 0.01)


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_no_bytes_do_more_than_be_refused(pieces: list[bytes]) -> None:
    reader = FragmentReader()
    try:
        for piece in pieces:
            reader.feed(piece)
    except BadFragments:
        pass


@pytest.mark.heavy
@pytest.mark.asyncio
async def test_what_ffmpeg_writes_is_read_and_plays(tmp_path: Path) -> None:
    arguments = [*HLS_ARGUMENTS[:-1], *hls_sound(audio=True), HLS_ARGUMENTS[-1]]
    process = await asyncio.create_subprocess_exec(
        "ffmpeg", *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(transport_stream(5))
    reader, window = FragmentReader(), HlsWindow()
    for at in range(0, len(out), 1_000):
        for one in reader.feed(out[at : at + 1_000]):
            window.add(one)
    listed = names(window.playlist())
    assert len(listed) >= 4
    assert re.search(r"# codecs=avc1\.42[0-9a-f]{4},mp4a\.40\.2\n", window.playlist())
    first = re.findall(r'URI="hls/(.*)"', window.playlist())[0]
    files = [window.file(name) for name in (first, *listed)]
    assert None not in files
    path = tmp_path / "all.mp4"
    path.write_bytes(b"".join(file for file in files if file is not None))
    found = await probed(path)
    lengths = [float(text) for text in re.findall(r"#EXTINF:([\d.]+),", window.playlist())]
    assert lengths == pytest.approx([1.0] * len(lengths), abs=0.05)
    assert abs(found["video"]["packets"] / 30 - sum(lengths)) < 0.1


@pytest.mark.heavy
@pytest.mark.asyncio
async def test_pictures_without_a_further_key_frame_are_not_held_for_ever() -> None:
    muxer = TsMuxer()
    stream = b"".join([muxer.tables(audio=False), *map(muxer.frame, frames(5, sound=False))])
    arguments = [*HLS_ARGUMENTS[:-1], *hls_sound(audio=False), HLS_ARGUMENTS[-1]]
    most = arguments.index(str(MAX_FRAGMENT))
    arguments[most] = "2000"
    process = await asyncio.create_subprocess_exec(
        "ffmpeg", *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(stream)
    fragments = [one for one in FragmentReader().feed(out) if isinstance(one, MovieFragment)]
    assert len(fragments) > 8
    assert max(len(one.data) for one in fragments) < 4_000
