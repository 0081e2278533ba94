"""Why nothing can be shown of a transport stream, in words."""

from __future__ import annotations

from gateway.media.mpegts import STREAM_H264, ElementaryStream, ProgramMap, registrations

ENOUGH = 64 * 1024
"""Bytes within which a transport stream has named its streams."""
ENOUGH_H264 = 1024 * 1024
"""Bytes of H.264 within which a picture comes."""

_TYPES = {
    0x01: "MPEG-1 video",
    0x02: "MPEG-2 video",
    0x03: "MPEG audio",
    0x04: "MPEG audio",
    0x0F: "AAC",
    0x10: "MPEG-4 part 2",
    0x11: "AAC",
    0x21: "JPEG 2000",
    0x24: "HEVC",
    0x33: "VVC",
    0x81: "AC-3",
    0xEA: "VC-1",
}
"""stream_type (ISO/IEC 13818-1, table 2-34, and ATSC's) of what is not shown."""
_FORMATS = {
    b"AV01": "AV1",
    b"HEVC": "HEVC",
    b"VP08": "VP8",
    b"VP09": "VP9",
    b"VVC ": "VVC",
    b"Opus": "Opus",
}
"""format_identifier of registration descriptors."""


def why_unshowable(program: ProgramMap | None, size: int) -> str:
    """Why no picture of a stream is shown; empty where one was just shown or may come yet.

    `program` is the newest PMT, `size` how many bytes came since the newest H.264 picture, or the beginning.
    """
    if not size:
        return ""
    if program is None:
        return "its worker answers no MPEG-TS, and H.264 in that is shown" if size > ENOUGH else ""
    if any(stream.stream_type == STREAM_H264 for stream in program.streams):
        return "its worker answers H.264 in which no picture can be read" if size > ENOUGH_H264 else ""
    names = list(dict.fromkeys(map(_name, program.streams)))[:8]
    return f"its worker answers {', '.join(names) or 'a program without streams'}, and H.264 alone is shown"


def _name(stream: ElementaryStream) -> str:
    known = [_FORMATS[one] for one in registrations(stream.descriptors) if one in _FORMATS]
    return known[0] if known else _TYPES.get(stream.stream_type, f"stream type 0x{stream.stream_type:02x}")
