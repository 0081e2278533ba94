from __future__ import annotations

import io
from fractions import Fraction

import av
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.media.frames import AccessUnit, Frame, OpusPacket
from gateway.media.h264 import NalType, nal_type, split_annex_b
from gateway.media.mpegts import PACKET_SIZE, TIMESTAMP_MASK
from gateway.media.ts_demuxer import TsDemuxer
from gateway.media.ts_muxer import AUDIO_PID, PCR_LEAD, PMT_PID, VIDEO_PID, TsMuxer

TICKS = Fraction(1, 90_000)


def packets(data: bytes) -> list[bytes]:
    assert len(data) % PACKET_SIZE == 0
    return [data[at : at + PACKET_SIZE] for at in range(0, len(data), PACKET_SIZE)]


def pid(packet: bytes) -> int:
    return (packet[1] & 0x1F) << 8 | packet[2]


def written(frames: list[Frame], *, audio: bool) -> bytes:
    muxer = TsMuxer()
    return muxer.tables(audio=audio) + b"".join(muxer.frame(frame) for frame in frames)


def at_pts(frame: Frame, offset: int) -> Frame:
    if isinstance(frame, AccessUnit):
        return AccessUnit(frame.nals, frame.pts + offset, frame.dts + offset, frame.key)
    return OpusPacket(frame.data, frame.pts + offset)


@pytest.mark.parametrize("bframes", [0, 2])
@pytest.mark.parametrize("sound", ["", "libopus"])
def test_ffmpeg_reads_what_is_written(make_sample, bframes: int, sound: str) -> None:
    sample = make_sample(bframes=bframes, audio=sound)
    frames = [at_pts(frame, 90_000) for frame in sample.frames]
    pictures = [frame for frame in frames if isinstance(frame, AccessUnit)]
    sounds = [frame for frame in frames if isinstance(frame, OpusPacket)]
    with av.open(io.BytesIO(written(frames, audio=bool(sound))), format="mpegts") as container:
        assert len(container.streams) == 1 + bool(sound)
        read_video, read_audio, decoded = [], [], 0
        for packet in container.demux():
            if packet.size == 0:
                continue
            scale = packet.time_base / TICKS
            if packet.stream.type == "audio":
                read_audio.append(OpusPacket(bytes(packet), round(packet.pts * scale)))
                continue
            assert not packet.is_corrupt
            nals = [nal for nal in split_annex_b(bytes(packet)) if nal_type(nal) != NalType.AUD]
            read_video.append(
                AccessUnit(nals, round(packet.pts * scale), round(packet.dts * scale), packet.is_keyframe)
            )
            decoded += len(packet.decode())
        decoded += len(container.streams.video[0].decode(None))
        size = (container.streams.video[0].width, container.streams.video[0].height)
    assert read_video == pictures
    assert read_audio == sounds
    assert decoded == len(pictures)
    assert size == (160, 120)


def test_opus_is_declared_as_stereo_at_48_khz_and_decodes(make_sample) -> None:
    sample = make_sample(audio="libopus")
    data = written([at_pts(frame, 90_000) for frame in sample.frames], audio=True)
    with av.open(io.BytesIO(data), format="mpegts") as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.rate, stream.channels) == ("opus", 48_000, 2)
        assert sum(frame.samples for frame in container.decode(stream)) >= 1.9 * 48_000


def test_a_segment_starts_with_both_tables_and_sound_only_where_it_is_declared() -> None:
    muxer = TsMuxer()
    assert [pid(p) for p in packets(muxer.tables(audio=False))] == [0, PMT_PID]
    silent, loud = muxer.tables(audio=False), muxer.tables(audio=True)
    assert b"Opus" not in silent
    assert b"Opus" in loud
    version = [packets(table)[1][10] >> 1 & 0x1F for table in (silent, loud, muxer.tables(audio=True))]
    assert version == [0, 1, 1]


def test_a_key_frame_is_marked_for_random_access_and_every_picture_carries_the_clock() -> None:
    muxer = TsMuxer()
    for key, dts in ((True, 0), (False, 2**33 + 5)):
        first = packets(muxer.video(AccessUnit([b"\x65abc"], dts, dts, key)))[0]
        assert bool(first[5] & 0x40) is key
        assert first[5] & 0x10
        base = int.from_bytes(first[6:12], "big") >> 15
        assert base == (dts - PCR_LEAD) & TIMESTAMP_MASK


@given(
    sizes=st.lists(
        st.one_of(st.integers(1, 800), st.integers(65_000, 66_000)),
        min_size=1,
        max_size=8,
    ),
    audio_size=st.integers(1, 1_300),
)
@example(sizes=[65_833], audio_size=1)  # two bytes of stuffing: a field of flags that are all zero
@settings(max_examples=60)
def test_every_frame_is_read_back_with_its_last_packet(sizes: list[int], audio_size: int) -> None:
    muxer, demuxer = TsMuxer(), TsDemuxer()
    assert demuxer.feed(muxer.tables(audio=True)) == []
    # A reader trusts stuffing as an end once it has seen some.
    for index in range(3):
        demuxer.feed(muxer.video(AccessUnit([b"\x65"], index, index, True)))
    counters: dict[int, int] = {}
    for index, size in enumerate(sizes):
        time = (index + 1) * 3_000
        unit = AccessUnit([b"\x41" + b"\xaa" * (size - 1)], time + 3_000, time, False)
        sound = OpusPacket(b"\xfc" + b"\xbb" * (audio_size - 1), time)
        data = muxer.video(unit)
        assert demuxer.feed(data) == [unit]
        assert demuxer.feed(muxer.audio(sound)) == [sound]
        for packet in packets(data):
            assert packet[0] == 0x47
            assert pid(packet) == VIDEO_PID
            assert counters.get(VIDEO_PID, packet[3] & 0x0F) == packet[3] & 0x0F
            counters[VIDEO_PID] = (packet[3] + 1) & 0x0F
    assert demuxer.damaged == demuxer.continuity_errors == demuxer.resyncs == 0


@given(start=st.integers(-(2**34), 2**34), delay=st.integers(0, 90_000))
def test_times_of_any_size_are_masked_and_come_back_in_step(start: int, delay: int) -> None:
    muxer, demuxer = TsMuxer(), TsDemuxer()
    demuxer.feed(muxer.tables(audio=True))
    got = []
    for index in range(4):
        dts = start + index * 2**31
        got += demuxer.feed(muxer.video(AccessUnit([b"\x65a"], dts + delay, dts, True)))
    assert got[0].dts == start & TIMESTAMP_MASK
    assert [unit.dts - got[0].dts for unit in got] == [index * 2**31 for index in range(4)]
    assert all(unit.pts - unit.dts == delay for unit in got)


def test_counters_go_on_over_segments() -> None:
    muxer = TsMuxer()
    counters: dict[int, list[int]] = {}
    for segment in range(20):
        data = muxer.tables(audio=True)
        data += muxer.video(AccessUnit([b"\x65" * 500], segment, segment, True))
        data += muxer.audio(OpusPacket(b"\xfc" * 300, segment))
        for packet in packets(data):
            counters.setdefault(pid(packet), []).append(packet[3] & 0x0F)
    assert set(counters) == {0, PMT_PID, VIDEO_PID, AUDIO_PID}
    for seen in counters.values():
        assert seen == [(seen[0] + index) % 16 for index in range(len(seen))]
