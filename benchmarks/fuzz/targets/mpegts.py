"""Transport streams, read in pieces as a connection gives them."""

from __future__ import annotations

from benchmarks.fuzz.target import Target
from gateway.media import opus
from gateway.media.mpegts import MAX_SECTION
from gateway.media.ts_demuxer import TsDemuxer
from harness.hostile_streams import (
    PMT_PID,
    ended_picture,
    ended_sound,
    program,
    table,
    tables,
)

PIECE = 65_536


def check(data: bytes) -> None:
    demuxer = TsDemuxer()
    for at in range(0, len(data), PIECE):
        demuxer.feed(data[at : at + PIECE])
    demuxer.flush()
    assert demuxer.held_bytes <= 2 * MAX_SECTION, "only what is begun of a table stays after a segment"


PARAMETERS = b"\0\0\1\x67\x42\xe0\x1f\xda\x01\x40\x16\xe8\0\0\1\x68\xce\x3c\x80"
PICTURE = b"\0\0\1\x09\xf0" + PARAMETERS + b"\0\0\1\x65\x88" + bytes(range(1, 250))

MPEGTS = Target(
    "mpegts",
    check,
    limit=512 * 1024,
    seeds=[
        tables() + ended_picture(PICTURE),
        tables() + ended_picture(PICTURE * 4) + ended_sound((opus.control_header(20) + bytes(20)) * 3),
        tables() + table(PMT_PID, program(0x300, 0x301).section(1), 1) + ended_picture(PICTURE),
    ],
    words=[
        b"\x47\x41\x00\x10\0\0\1\xe0\0\0\x84\x80\x05\x21\0\1\0\1",
        *(b"\0\0\1\x41", b"\0\0\1\x09\xf0", b"\x7f\xe0\x01"),
    ],
)
