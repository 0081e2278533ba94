"""Transport streams that are costly to read."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from gateway.media.frames import Frame
from gateway.media.mpegts import PACKET_SIZE
from gateway.media.ts_assembly import MAX_PES_BYTES
from gateway.media.ts_demuxer import MAX_FRAMES, MAX_NALS, MAX_PICTURES, MAX_TABLES, TsDemuxer
from harness.hostile_streams import HOSTILE_STREAMS, PMT_PID, SLICE, ended_picture, program, table, tables
from harness.waiting import SLACK

CHUNK = 65_536
"""Bytes of the largest piece that one read gives."""


def read(data: bytes, demuxer: TsDemuxer, size: int = CHUNK) -> list[Frame]:
    frames = []
    for at in range(0, len(data), size):
        frames += demuxer.feed(data[at : at + size])
    return frames + demuxer.flush()


@pytest.mark.parametrize("data", HOSTILE_STREAMS.values(), ids=HOSTILE_STREAMS.keys())
def test_no_stream_takes_long_for_one_of_its_pieces(data: bytes) -> None:
    demuxer, longest = TsDemuxer(), 0.0
    for at in range(0, len(data) + 1, CHUNK):
        before = time.process_time()
        demuxer.feed(data[at : at + CHUNK]) if at < len(data) else demuxer.flush()
        longest = max(longest, time.process_time() - before)
    assert longest < 0.05 * SLACK


@pytest.mark.parametrize("name", ["NAL units of one byte", "tables that change", "packets of sound"])
def test_what_a_stream_took_in_memory_is_given_back(name: str) -> None:
    data = HOSTILE_STREAMS[name]
    demuxer = TsDemuxer()
    tracemalloc.start()
    try:
        read(data, demuxer)
        left, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 * MAX_PES_BYTES
    assert left < 100_000
    assert demuxer.held_bytes == 0


@pytest.mark.parametrize(
    ("payload", "pictures"),
    [
        (b"\0\0\1\x41\x9a" * MAX_NALS, 1),
        (b"\0\0\1\x41\x9a" * (MAX_NALS + MAX_PICTURES + 1), 0),
        (b"\0\0\1\x09\xf0\0\0\1\x41\x9a" * MAX_PICTURES, MAX_PICTURES),
        (b"\0\0\1\x09\xf0\0\0\1\x41\x9a" * (MAX_PICTURES + 1), 0),
    ],
)
def test_a_packet_with_more_than_a_picture_has_is_given_up(payload: bytes, pictures: int) -> None:
    demuxer = TsDemuxer()
    frames = read(tables() + ended_picture(payload), demuxer)
    assert len(frames) == pictures + 1, "the picture behind it is well"
    assert demuxer.damaged == (not pictures)


def test_more_pictures_in_a_second_than_are_played_are_given_up() -> None:
    now = 0.0
    demuxer = TsDemuxer(clock=lambda: now)
    data = tables() + HOSTILE_STREAMS["starts of pictures"][: PACKET_SIZE * 2 * MAX_FRAMES]
    assert len(read(data, demuxer)) == MAX_FRAMES
    now = 1.0
    assert read(HOSTILE_STREAMS["starts of pictures"][: PACKET_SIZE * 10], demuxer)


def test_tables_that_change_all_the_time_are_not_followed() -> None:
    now = 0.0
    demuxer = TsDemuxer(clock=lambda: now)
    demuxer.feed(tables())
    for number in range(2 * MAX_TABLES):
        demuxer.feed(table(PMT_PID, program(video=0x300 + number).section(number), number + 1))
    pids = range(0x300, 0x300 + 2 * MAX_TABLES)
    (followed,) = [pid for pid in pids if read(ended_picture(SLICE, pid), demuxer)]
    assert followed < 0x300 + MAX_TABLES
    now = 1.0
    demuxer.feed(table(PMT_PID, program(video=0x400).section(1), 2 * MAX_TABLES + 1))
    assert read(ended_picture(SLICE, 0x400), demuxer), "the next second is another"
    assert not read(ended_picture(SLICE, followed), demuxer)
