from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.media import opus
from gateway.media.frames import AccessUnit, Frame, OpusPacket
from gateway.media.h264 import join_annex_b
from gateway.media.mpegts import (
    PACKET_SIZE,
    STREAM_H264,
    STREAM_ID_PRIVATE_1,
    STREAM_ID_VIDEO,
    STREAM_PRIVATE_PES,
    ElementaryStream,
    ProgramMap,
    pat_section,
)
from gateway.media.pes import write_header
from gateway.media.ts_assembly import MAX_PES_BYTES
from gateway.media.ts_demuxer import TsDemuxer
from gateway.media.ts_muxer import PMT_PID, VIDEO_PID, TsMuxer

NULL_PACKET = b"\x47\x1f\xff\x10" + b"\xff" * 184


def video(frames: list[Frame]) -> list[AccessUnit]:
    return [frame for frame in frames if isinstance(frame, AccessUnit)]


def audio(frames: list[Frame]) -> list[OpusPacket]:
    return [frame for frame in frames if isinstance(frame, OpusPacket)]


def packets(data: bytes) -> list[bytes]:
    return [data[at : at + PACKET_SIZE] for at in range(0, len(data), PACKET_SIZE)]


def read(data: bytes, size: int = 1316, demuxer: TsDemuxer | None = None) -> list[Frame]:
    demuxer = demuxer or TsDemuxer()
    frames = []
    for at in range(0, len(data), size):
        frames += demuxer.feed(data[at : at + size])
    return frames + demuxer.flush()


def shifted(units: list[AccessUnit], offset: int) -> list[AccessUnit]:
    return [AccessUnit(unit.nals, unit.pts + offset, unit.dts + offset, unit.key) for unit in units]


def picture(index: int, size: int = 2_000, key: bool = False) -> AccessUnit:
    head = b"\x65" if key else b"\x41"
    body = random.Random(index).randbytes(size).replace(b"\x00", b"\x01")
    return AccessUnit([head + body], index * 3_000, index * 3_000, key)


def sound(index: int) -> OpusPacket:
    return OpusPacket(b"\xfc" + random.Random(index).randbytes(150), index * 3_000 + 7)


def stream_of(count: int, size: int = 2_000) -> tuple[list[list[bytes]], list[Frame]]:
    """The packets of each frame (tables first), and the frames: a picture, a sound, a picture.."""
    muxer = TsMuxer()
    parts, frames = [packets(muxer.tables(audio=True))], []
    for index in range(count):
        for frame in (picture(index, size, key=index == 0), sound(index)):
            parts.append(packets(muxer.frame(frame)))
            frames.append(frame)
    return parts, frames


def flat(parts: list[list[bytes]]) -> bytes:
    return b"".join(packet for part in parts for packet in part)


def plain_packet(pid: int, counter: int, payload: bytes, *, start: bool = False) -> bytes:
    """A packet of `payload`, stuffed where it is short."""
    head = bytes((0x47, (0x40 if start else 0) | pid >> 8, pid & 0xFF))
    missing = 184 - len(payload)
    if not missing:
        return head + bytes((0x10 | counter % 16,)) + payload
    field = b"\x00" if missing == 1 else bytes((missing - 1, 0)) + b"\xff" * (missing - 2)
    return head + bytes((0x30 | counter % 16,)) + field + payload


def tables(*streams: ElementaryStream, version: int = 0, counter: int = 0) -> bytes:
    program = ProgramMap(1, VIDEO_PID, streams)
    sections = ((0, pat_section(1, PMT_PID, 0)), (PMT_PID, program.section(version)))
    return b"".join(
        plain_packet(pid, counter, (b"\x00" + section).ljust(184, b"\xff"), start=True)
        for pid, section in sections
    )


# --- files of another muxer


@pytest.mark.parametrize("bframes", [0, 2])
@pytest.mark.parametrize("codec", ["", "libopus", "aac"])
def test_a_file_of_ffmpeg_gives_the_frames_that_went_in(make_sample, bframes: int, codec: str) -> None:
    sample = make_sample(bframes=bframes, audio=codec)
    demuxer = TsDemuxer()
    frames = read(sample.ts, demuxer=demuxer)
    offset = video(frames)[0].dts - sample.video[0].dts
    assert video(frames) == shifted(sample.video, offset)
    assert demuxer.declares_audio is (codec == "libopus")
    if codec == "libopus":
        assert audio(frames) == [OpusPacket(p.data, p.pts + offset) for p in sample.audio]
    else:
        assert not audio(frames)
    assert demuxer.damaged == demuxer.continuity_errors == demuxer.resyncs == 0


def test_a_picture_of_ffmpeg_comes_with_its_last_packet_not_with_the_next_picture(make_sample) -> None:
    sample = make_sample()
    demuxer = TsDemuxer()
    ready: list[int] = []
    starts: list[int] = []
    seen = 0
    for index, packet in enumerate(packets(sample.ts)):
        if packet[1] & 0x40 and packet[1:3] == b"\x41\x00":
            starts.append(index)
        got = len(demuxer.feed(packet))
        seen += got
        ready += [index] * got
    # Packets that happen to be filled to the last byte tell nothing; the first two teach the reader.
    late = sum(at >= following for at, following in zip(ready, starts[1:], strict=False))
    assert seen >= len(sample.video) - 1
    assert late <= 4


# --- chunks


@given(cuts=st.lists(st.integers(1, 1_000), min_size=1, max_size=40), noise=st.binary(max_size=400))
@settings(max_examples=60)
def test_any_chunks_give_the_same_frames(cuts: list[int], noise: bytes) -> None:
    parts, _ = stream_of(6)
    half = len(flat(parts)) // (2 * PACKET_SIZE) * PACKET_SIZE
    data = noise + flat(parts)[:half] + noise + flat(parts)[half:]
    whole = read(data, len(data))
    demuxer, frames, at, turn = TsDemuxer(), [], 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        frames += demuxer.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    assert frames + demuxer.flush() == whole


def test_a_segment_is_read_like_the_one_before_after_a_flush() -> None:
    muxer = TsMuxer()
    demuxer = TsDemuxer()
    got = []
    for index in range(3):
        data = muxer.tables(audio=False) + muxer.video(picture(index, 70_000, key=True))
        got += demuxer.feed(data) + demuxer.flush()
    assert got == [picture(index, 70_000, key=True) for index in range(3)]


def test_a_segment_that_broke_off_gives_no_half_picture() -> None:
    muxer = TsMuxer()
    demuxer = TsDemuxer()
    whole = muxer.video(picture(0, 70_000, key=True))
    assert demuxer.feed(muxer.tables(audio=False) + whole[: 100 * PACKET_SIZE]) == []
    demuxer.discard()
    assert demuxer.damaged == 1
    muxer = TsMuxer()
    data = muxer.tables(audio=False) + muxer.video(picture(1, key=True))
    assert demuxer.feed(data) == [picture(1, key=True)]


def test_a_segment_that_ends_within_a_packet_gives_no_half_picture() -> None:
    muxer = TsMuxer()
    demuxer = TsDemuxer()
    demuxer.feed(muxer.tables(audio=False) + muxer.video(picture(0, 70_000, key=True))[:10_000])
    assert demuxer.flush() == []
    assert demuxer.damaged == 1


# --- damage


@given(lost=st.sets(st.integers(0, 200), min_size=1, max_size=6))
@settings(max_examples=100)
def test_lost_packets_lose_the_frames_that_they_touch_and_no_other(lost: set[int]) -> None:
    parts, frames = stream_of(12)
    owners = [index for index, part in enumerate(parts) for _ in part]
    # Tables are not spared as a rule, but without the first ones there is nothing to read.
    gone = {position for position in lost if 2 <= position < len(owners)}
    data = b"".join(
        packet
        for position, packet in enumerate(packet for part in parts for packet in part)
        if position not in gone
    )
    touched = {owners[position] - 1 for position in gone}
    assert read(data) == [frame for index, frame in enumerate(frames) if index not in touched]


def test_a_gap_is_counted_with_the_frame_that_it_cost() -> None:
    parts, frames = stream_of(4)
    del parts[3][2]
    demuxer = TsDemuxer()
    assert read(flat(parts), demuxer=demuxer) == [f for f in frames if f is not frames[2]]
    assert (demuxer.continuity_errors, demuxer.damaged) == (1, 1)


def test_sixteen_lost_packets_are_caught_by_the_length() -> None:
    parts, frames = stream_of(3, size=6_000)
    del parts[1][5:21]
    assert read(flat(parts)) == frames[1:]


def test_packets_sent_twice_are_read_once() -> None:
    parts, frames = stream_of(4)
    data = b"".join(packet * 2 for part in parts for packet in part)
    demuxer = TsDemuxer()
    assert read(data, demuxer=demuxer) == frames
    assert demuxer.continuity_errors == 0


def test_null_packets_and_foreign_streams_are_passed_over() -> None:
    parts, frames = stream_of(4)
    foreign = b"\x47\x47\x77\x10" + b"\x00\x00\x01\xe0" * 46
    data = b"".join(packet + NULL_PACKET + foreign for part in parts for packet in part)
    assert read(data) == frames


def test_packets_of_an_adaptation_field_alone_are_not_counted() -> None:
    parts, frames = stream_of(4)
    clock_only = b"\x47\x01\x00\x20" + bytes((183, 0x10)) + b"\x00" * 6 + b"\xff" * 176
    data = b"".join(packet + clock_only for part in parts for packet in part)
    assert read(data) == frames


@pytest.mark.parametrize(("offset", "bit"), [(1, 0x80), (3, 0x80), (3, 0x40)])
def test_scrambled_and_erroneous_packets_cost_their_frame(offset: int, bit: int) -> None:
    parts, frames = stream_of(4)
    packet = bytearray(parts[3][1])
    packet[offset] |= bit
    parts[3][1] = bytes(packet)
    assert read(flat(parts)) == [f for f in frames if f is not frames[2]]


def test_a_discontinuity_that_is_announced_is_no_error() -> None:
    first, frames = stream_of(2)
    second, later = stream_of(3)
    spliced = bytearray(second[1][0])  # the picture's first packet has an adaptation field
    spliced[5] |= 0x80
    spliced[3] = spliced[3] & 0xF0 | 9
    second[1][0] = bytes(spliced)
    for index, packet in enumerate(second[1][1:], start=1):
        second[1][index] = packet[:3] + bytes((packet[3] & 0xF0 | (9 + index) % 16,)) + packet[4:]
    demuxer = TsDemuxer()
    assert read(flat(first) + flat(second[1:2]), demuxer=demuxer) == [*frames, later[0]]
    assert demuxer.continuity_errors == 0


@given(where=st.integers(2, 60), garbage=st.binary(min_size=1, max_size=700))
@settings(max_examples=80)
def test_garbage_between_packets_costs_little_and_reading_goes_on(where: int, garbage: bytes) -> None:
    parts, frames = stream_of(12)
    everything = [packet for part in parts for packet in part]
    owners = [index for index, part in enumerate(parts) for _ in part]
    data = b"".join(everything[:where]) + garbage + b"".join(everything[where:])
    got = read(data)
    # Garbage may look like packets for a while; what lies well behind it is whole again.
    after = [frame for index, frame in enumerate(frames) if index + 1 > owners[where] + 6]
    assert got[-len(after) :] == after
    assert all(frame in frames for frame in got)


def test_random_bytes_never_raise_and_never_pile_up() -> None:
    chance = random.Random(20)
    demuxer = TsDemuxer()
    for _ in range(60):
        noise = bytearray(chance.randbytes(PACKET_SIZE * 40))
        for at in range(0, len(noise), PACKET_SIZE):
            noise[at] = 0x47
            if chance.random() < 0.5:
                noise[at + 1] = chance.choice((0x00, 0x40, 0x41, 0x50))
                noise[at + 2] = 0
        demuxer.feed(bytes(noise))
    assert demuxer.held_bytes < 2 * PACKET_SIZE * 40 + MAX_PES_BYTES


@pytest.mark.parametrize("seed", range(12))
def test_mutated_streams_never_raise(seed: int) -> None:
    chance = random.Random(seed)
    parts, _ = stream_of(10)
    data = bytearray(flat(parts))
    for _ in range(30):
        for _ in range(chance.randrange(1, 30)):
            at = chance.randrange(len(data))
            match chance.randrange(3):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at : at + chance.randrange(1, 400)]
                case _:
                    data[at:at] = chance.randbytes(chance.randrange(1, 200))
        demuxer = TsDemuxer()
        for frame in read(bytes(data), chance.randrange(1, 3_000), demuxer):
            assert isinstance(frame, AccessUnit | OpusPacket)
        data = bytearray(flat(parts))


def test_a_picture_without_end_is_given_up() -> None:
    demuxer = TsDemuxer()
    demuxer.feed(tables(ElementaryStream(STREAM_H264, VIDEO_PID)))
    pes = b"\x00\x00\x01\xe0\x00\x00\x80\x80\x05\x21\x00\x01\x00\x01" + b"\xaa" * 170
    demuxer.feed(plain_packet(VIDEO_PID, 0, pes, start=True))
    worst = 0
    for index in range(1, MAX_PES_BYTES // 184 + 1_000):
        demuxer.feed(plain_packet(VIDEO_PID, index, b"\xaa" * 184))
        if index % 1_000 == 0:
            worst = max(worst, demuxer.held_bytes)
    assert worst <= MAX_PES_BYTES + PACKET_SIZE
    assert demuxer.damaged == 1


# --- times


def test_times_go_on_over_the_wrap_for_picture_and_sound_alike() -> None:
    muxer = TsMuxer()
    start = 2**33 - 6_000
    data = muxer.tables(audio=True)
    for index in range(6):
        unit = picture(index, key=True)
        data += muxer.video(AccessUnit(unit.nals, start + unit.pts + 4_000, start + unit.dts, True))
        data += muxer.audio(OpusPacket(b"\xfcabc", start + index * 3_000 - 1_000))
    frames = read(data)
    assert [unit.dts - start for unit in video(frames)] == [index * 3_000 for index in range(6)]
    assert all(unit.pts == unit.dts + 4_000 for unit in video(frames))
    assert [p.pts - start for p in audio(frames)] == [index * 3_000 - 1_000 for index in range(6)]
    assert all(b.dts > a.dts for a, b in pairwise(video(frames)))


# --- tables


def pes_packets(pid: int, stream_id: int, payload: bytes, pts: int, counter: int = 0) -> bytes:
    data = write_header(stream_id, len(payload), pts) + payload
    pieces = [data[at : at + 184] for at in range(0, len(data), 184)]
    return b"".join(
        plain_packet(pid, counter + index, piece, start=index == 0) for index, piece in enumerate(pieces)
    )


def test_streams_move_to_other_pids_when_the_table_says_so() -> None:
    demuxer = TsDemuxer()
    unit = picture(0, key=True)
    payload = join_annex_b(unit.nals)
    demuxer.feed(tables(ElementaryStream(STREAM_H264, 0x100)))
    assert demuxer.feed(pes_packets(0x100, STREAM_ID_VIDEO, payload, 0)) == [unit]
    demuxer.feed(tables(ElementaryStream(STREAM_H264, 0x200), version=1, counter=1))
    assert demuxer.feed(pes_packets(0x100, STREAM_ID_VIDEO, payload, 0, counter=12)) == []
    assert demuxer.feed(pes_packets(0x200, STREAM_ID_VIDEO, payload, 0)) == [unit]


def test_a_damaged_table_changes_nothing() -> None:
    demuxer = TsDemuxer()
    demuxer.feed(tables(ElementaryStream(STREAM_H264, 0x100)))
    broken = bytearray(tables(ElementaryStream(STREAM_H264, 0x200), version=1, counter=1))
    broken[-150] ^= 0xFF
    broken[PACKET_SIZE + 20] ^= 0x01
    demuxer.feed(bytes(broken))
    unit = picture(0, key=True)
    assert demuxer.feed(pes_packets(0x100, STREAM_ID_VIDEO, join_annex_b(unit.nals), 0)) == [unit]


def test_a_table_may_lie_over_several_packets_and_other_descriptors() -> None:
    other = ElementaryStream(STREAM_PRIVATE_PES, 0x300, bytes((0x0A, 200)) + b"x" * 200)
    opus_stream = ElementaryStream(STREAM_PRIVATE_PES, 0x301, b"\x0a\x04eng\x00" + opus.descriptors(2))
    program = ProgramMap(1, 0x100, (other, ElementaryStream(STREAM_H264, 0x100), opus_stream))
    section = b"\x00" + program.section(0)
    pieces = [section[:100], section[100:250], section[250:]]
    demuxer = TsDemuxer()
    demuxer.feed(tables())
    pmt = b"".join(
        plain_packet(PMT_PID, 1 + index, piece, start=index == 0) for index, piece in enumerate(pieces)
    )
    demuxer.feed(pmt)
    assert demuxer.declares_audio
    unit = picture(0, key=True)
    assert demuxer.feed(pes_packets(0x100, STREAM_ID_VIDEO, join_annex_b(unit.nals), 0)) == [unit]


# --- PES packets of other shapes


def test_several_opus_packets_in_one_pes_packet_follow_each_other_in_time() -> None:
    demuxer = TsDemuxer()
    demuxer.feed(tables(ElementaryStream(STREAM_PRIVATE_PES, 0x101, opus.descriptors(2))))
    sounds = [b"\xfc" + bytes(300), b"\xfcb", b"\xf4c"]  # 20, 20 and 10 ms
    payload = b"".join(opus.control_header(len(data)) + data for data in sounds)
    frames = demuxer.feed(pes_packets(0x101, STREAM_ID_PRIVATE_1, payload, 900))
    assert frames == [OpusPacket(data, pts) for data, pts in zip(sounds, (900, 2_700, 4_500), strict=True)]


def test_several_pictures_in_one_pes_packet_are_told_apart_by_their_delimiters() -> None:
    demuxer = TsDemuxer()
    demuxer.feed(tables(ElementaryStream(STREAM_H264, 0x100)))
    aud = b"\x09\xf0"
    first = join_annex_b([aud, b"\x65one"])
    assert len(demuxer.feed(pes_packets(0x100, STREAM_ID_VIDEO, first, 0))) == 1
    both = join_annex_b([aud, b"\x41two", aud, b"\x41three"])
    frames = demuxer.feed(pes_packets(0x100, STREAM_ID_VIDEO, both, 1_500, counter=1))
    assert frames == [
        AccessUnit([b"\x41two"], 1_500, 1_500, False),
        AccessUnit([b"\x41three"], 3_000, 3_000, False),
    ]


def unbounded(index: int, pieces: int) -> list[bytes]:
    """Payloads of one picture's PES packet without a length."""
    data = write_header(STREAM_ID_VIDEO, 70_000, index * 3_000) + join_annex_b([b"\x65" + b"\x11" * 600])
    size = len(data) // pieces + 1
    return [data[at : at + size] for at in range(0, len(data), size)]


def test_stuffing_within_pictures_is_learned_before_it_can_cut_one() -> None:
    demuxer = TsDemuxer()
    demuxer.feed(tables(ElementaryStream(STREAM_H264, 0x100)))
    frames, counter = [], 0
    for index in range(8):
        for place, piece in enumerate(unbounded(index, pieces=6)):  # each of 6 packets is stuffed
            frames += demuxer.feed(plain_packet(0x100, counter, piece, start=place == 0))
            counter += 1
    frames += demuxer.flush()
    assert [unit.dts for unit in video(frames)] == [index * 3_000 for index in range(8)]
    assert all(len(unit.nals[0]) == 601 for unit in video(frames))
    assert demuxer.damaged == 0


def test_a_writer_that_begins_to_stuff_within_pictures_costs_one_picture() -> None:
    demuxer = TsDemuxer()
    demuxer.feed(tables(ElementaryStream(STREAM_H264, 0x100)))
    frames, counter = [], 0
    for index in range(12):
        if index < 6:
            data = b"".join(unbounded(index, pieces=1))
            pieces = [data[at : at + 184] for at in range(0, len(data), 184)]
        else:
            pieces = unbounded(index, pieces=6)
        for place, piece in enumerate(pieces):
            frames += demuxer.feed(plain_packet(0x100, counter, piece, start=place == 0))
            counter += 1
    frames += demuxer.flush()
    whole = [unit.dts // 3_000 for unit in video(frames) if len(unit.nals[0]) == 601]
    assert whole == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    assert demuxer.damaged == 1
