"""Transport streams, read in pieces as a connection gives them.

The first byte says what the others are: packets as they are, or what is in those of one stream.
"""

from __future__ import annotations

from benchmarks.fuzz.target import Target
from gateway.media import opus
from gateway.media.mpegts import MAX_SECTION, PACKET_SIZE
from gateway.media.ts_demuxer import TsDemuxer
from harness.hostile_streams import PMT_PID, ended_picture, ended_sound, program, table, tables

PIECE = 65_536
MOST_PACKETS = 2 * PIECE
"""Bytes of packets in one input: one large read. What one packet of a stream has may come in many."""
PACKETS, PICTURE, SOUND, TABLES = b"0", b"1", b"2", b"3"


def check(data: bytes) -> None:
    stream = whole(data[:1], data[1:])
    demuxer = TsDemuxer()
    for at in range(0, len(stream), PIECE):
        demuxer.feed(stream[at : at + PIECE])
    demuxer.flush()
    assert demuxer.held_bytes <= 2 * MAX_SECTION, "only what is begun of a table stays after a segment"


def whole(kind: bytes, data: bytes) -> bytes:
    if kind == PICTURE:
        return tables() + ended_picture(data)
    if kind == SOUND:
        return tables() + ended_sound(data)
    if kind == TABLES:
        sections = (data[at : at + 183] for at in range(0, min(len(data), MOST_PACKETS), 183))
        return tables() + b"".join(table(PMT_PID, section, n) for n, section in enumerate(sections))
    return data[:MOST_PACKETS]


PARAMETERS = b"\0\0\1\x67\x42\xe0\x1f\xda\x01\x40\x16\xe8\0\0\1\x68\xce\x3c\x80"
NALS = b"\0\0\1\x09\xf0" + PARAMETERS + b"\0\0\1\x65\x88" + bytes(range(1, 250))

MPEGTS = Target(
    "mpegts",
    check,
    limit=2 * 1024 * 1024,
    seeds=[
        PACKETS + tables() + ended_picture(NALS),
        PACKETS + tables() + table(PMT_PID, program(0x300, 0x301).section(1), 1) + ended_picture(NALS),
        PICTURE + NALS,
        PICTURE + b"\0\0\1\x41\x9a",
        SOUND + (opus.control_header(20) + bytes(20)) * 3,
        SOUND + opus.control_header(1) + b"\xfc",
        TABLES + program(0x300, 0x301).section(1).ljust(183, b"\xff") * 2,
    ],
    words=[
        b"\x47\x41\x00\x10\0\0\1\xe0\0\0\x84\x80\x05\x21\0\1\0\1".ljust(PACKET_SIZE, b"\1"),
        *(b"\0\0\1\x41", b"\0\0\1\x09\xf0", b"\0\0\1\x09\xf0\0\0\1\x41", b"\0\0\1\x67\x42\xe0\x1f\xda"),
        *(b"\x7f\xe0\x01\xfc", b"\xff", b"\0", b"\0\0\1"),
    ],
)
