from __future__ import annotations

import pytest

from gateway.media.mpegts import ElementaryStream, ProgramMap
from gateway.media.unshowable import ENOUGH, ENOUGH_H264, why_unshowable


def program(*streams: tuple[int, bytes]) -> ProgramMap:
    return ProgramMap(
        1, 256, tuple(ElementaryStream(kind, 256 + at, extra) for at, (kind, extra) in enumerate(streams))
    )


@pytest.mark.parametrize(
    ("streams", "named"),
    [
        ([(0x24, b"")], "HEVC"),
        ([(0x06, b"\x05\x04HEVC")], "HEVC"),
        ([(0x06, b"\x05\x04AV01"), (0x06, b"\x05\x04Opus")], "AV1, Opus"),
        ([(0x02, b""), (0x0F, b"")], "MPEG-2 video, AAC"),
        ([(0xC0, b"\x05\x09")], "stream type 0xc0"),
        ([], "a program without streams"),
    ],
)
def test_what_is_not_shown_is_named_at_once(streams: list[tuple[int, bytes]], named: str) -> None:
    assert why_unshowable(program(*streams), 400) == f"its worker answers {named}, and H.264 alone is shown"


def test_a_stream_that_may_show_something_yet_is_no_problem() -> None:
    assert why_unshowable(None, ENOUGH) == ""
    assert why_unshowable(program((0x1B, b"")), ENOUGH_H264) == ""
    assert why_unshowable(program((0x24, b"")), 0) == ""


def test_what_never_shows_anything_is_a_problem() -> None:
    assert "no MPEG-TS" in why_unshowable(None, ENOUGH + 1)
    assert "no picture can be read" in why_unshowable(program((0x1B, b"")), ENOUGH_H264 + 1)
