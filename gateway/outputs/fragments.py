"""Reads the fragmented MP4 that FFmpeg writes to a pipe: its header, and one fragment after the other.

Source: ISO/IEC 14496-12, 4.2 (boxes), 8.4.2, 8.8.3, 8.8.7, 8.8.8 (mdhd, trex, tfhd, trun); ISO/IEC 14496-15,
5.3.3.1 (avcC).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_BOX = 64 * 1024 * 1024
"""Limit of bytes of a box: a fragment is one group of pictures."""

_TFHD_BASE, _TFHD_DESCRIPTION, _TFHD_DURATION = 0x01, 0x02, 0x08
_TRUN_OFFSET, _TRUN_FIRST_FLAGS = 0x01, 0x04
_TRUN_DURATION, _TRUN_OTHERS = 0x100, (0x200, 0x400, 0x800)


class BadFragments(ValueError):
    """What came is no fragmented MP4 with a video track."""


@dataclass(frozen=True)
class Header:
    """`ftyp` and `moov`: what a player reads before any fragment."""

    data: bytes
    track: int
    timescale: int
    """Of the video track: ticks a second."""
    default_duration: int
    codecs: str
    """As RFC 6381 has them."""


@dataclass(frozen=True)
class MovieFragment:
    """`moof` and `mdat`, beginning with a key frame. `seconds` is how long its video lasts."""

    data: bytes
    seconds: float


class FragmentReader:
    """Takes bytes as they come. Raises BadFragments."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._start = b""
        self._moof = b""
        self._header: Header | None = None

    def feed(self, data: bytes) -> list[Header | MovieFragment]:
        """The headers and fragments that these bytes complete."""
        self._rest += data
        found: list[Header | MovieFragment] = []
        while len(self._rest) >= 8:
            size = int.from_bytes(self._rest[:4], "big")
            if not 8 <= size <= MAX_BOX:
                raise BadFragments(f"a box of {size} bytes")
            if len(self._rest) < size:
                break
            box = bytes(self._rest[:size])
            del self._rest[:size]
            found += self._box(box)
        return found

    def _box(self, box: bytes) -> list[Header | MovieFragment]:
        match box[4:8]:
            case b"ftyp":
                self._start = box
            case b"moov":
                self._header = _header(self._start + box, box)
                return [self._header]
            case b"moof":
                self._moof = box
            case b"mdat" if self._moof and self._header is not None:
                seconds = _ticks(self._moof, self._header) / self._header.timescale
                moof, self._moof = self._moof, b""
                return [MovieFragment(moof + box, seconds)]
        return []


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of the content of each box from `at` to `end`."""
    while at + 8 <= end:
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8 or at + size > end:
            raise BadFragments("a box that is cut short")
        yield data[at + 4 : at + 8], at + 8, at + size
        at += size


def _find(data: bytes, path: bytes, at: int, end: int) -> tuple[int, int] | None:
    """The content of the first box of this path, four letters a step."""
    for kind, start, stop in _boxes(data, at, end):
        if kind == path[:4]:
            return (start, stop) if len(path) == 4 else _find(data, path[4:], start, stop)
    return None


def _int(data: bytes, at: int, size: int = 4) -> int:
    return int.from_bytes(data[at : at + size], "big")


def _header(data: bytes, moov: bytes) -> Header:
    video: tuple[int, int] | None = None
    codecs = []
    for kind, start, stop in _boxes(moov, 8, len(moov)):
        if kind != b"trak":
            continue
        handler = _find(moov, b"mdiahdlr", start, stop)
        tkhd, mdhd = _find(moov, b"tkhd", start, stop), _find(moov, b"mdiamdhd", start, stop)
        if handler is None or tkhd is None or mdhd is None:
            raise BadFragments("a track without its boxes")
        if moov[handler[0] + 8 : handler[0] + 12] != b"vide":
            codecs.append("mp4a.40.2")
            continue
        long = moov[tkhd[0]] == 1, moov[mdhd[0]] == 1
        video = _int(moov, tkhd[0] + (20 if long[0] else 12)), _int(moov, mdhd[0] + (20 if long[1] else 12))
        avcc = moov.find(b"avcC", start, stop)
        if avcc < 0:
            raise BadFragments("a video track that is not H.264")
        codecs.insert(0, f"avc1.{moov[avcc + 5 : avcc + 8].hex()}")
    if video is None or video[1] == 0:
        raise BadFragments("no video track")
    default = 0
    mvex = _find(moov, b"mvex", 8, len(moov))
    for kind, start, _ in _boxes(moov, *mvex) if mvex else ():
        if kind == b"trex" and _int(moov, start + 4) == video[0]:
            default = _int(moov, start + 12)
    return Header(data, video[0], video[1], default, ",".join(codecs))


def _ticks(moof: bytes, header: Header) -> int:
    """How long the video of a fragment lasts."""
    total = 0
    for kind, start, stop in _boxes(moof, 8, len(moof)):
        tfhd = _find(moof, b"tfhd", start, stop) if kind == b"traf" else None
        if tfhd is None or _int(moof, tfhd[0] + 4) != header.track:
            continue
        flags, at = _int(moof, tfhd[0] + 1, 3), tfhd[0] + 8
        at += 8 * bool(flags & _TFHD_BASE) + 4 * bool(flags & _TFHD_DESCRIPTION)
        default = _int(moof, at) if flags & _TFHD_DURATION else header.default_duration
        for inner, first, end in _boxes(moof, start, stop):
            if inner == b"trun":
                total += _run_ticks(moof[first:end], default)
    return total


def _run_ticks(trun: bytes, default: int) -> int:
    flags, count = _int(trun, 1, 3), _int(trun, 4)
    if not flags & _TRUN_DURATION:
        return count * default
    at = 8 + 4 * bool(flags & _TRUN_OFFSET) + 4 * bool(flags & _TRUN_FIRST_FLAGS)
    step = 4 + 4 * sum(1 for flag in _TRUN_OTHERS if flags & flag)
    if at + count * step > len(trun):
        raise BadFragments("a run that is cut short")
    return sum(_int(trun, at + number * step) for number in range(count))
