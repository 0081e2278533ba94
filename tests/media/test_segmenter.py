from __future__ import annotations

import base64
import io
from itertools import pairwise

import av
import pytest

from gateway.media.frames import TICKS_PER_SECOND, AccessUnit, Frame, OpusPacket
from gateway.media.h264 import NalType, nal_type
from gateway.media.segmenter import MAX_BYTES, Segmenter
from gateway.media.ts_demuxer import TsDemuxer

STEP = 3_000


class Clock:
    def __init__(self) -> None:
        self.now = 9.0

    def __call__(self) -> float:
        return self.now


class Segment:
    def __init__(self, refuses: bool = False) -> None:
        self.writes: list[bytes] = []
        self.closed = False
        self.refuses = refuses

    def write(self, data: bytes) -> bool:
        assert not self.closed
        self.writes.append(data)
        return not self.refuses

    def close(self) -> None:
        assert not self.closed
        self.closed = True

    def frames(self) -> list[Frame]:
        demuxer = TsDemuxer()
        frames = demuxer.feed(b"".join(self.writes)) + demuxer.flush()
        assert demuxer.damaged == 0
        return frames


class Uplink:
    """A segmenter with a clock of its own and every segment that it opened."""

    def __init__(self, *, audio: bool = False, sprop: str = "", max_bytes: int = MAX_BYTES) -> None:
        self.clock = Clock()
        self.segments: list[Segment] = []
        self.segmenter = Segmenter(
            self._open, max_bytes=max_bytes, audio=audio, sprop=sprop, clock=self.clock
        )
        self.refuses = False

    def _open(self) -> Segment:
        assert all(segment.closed for segment in self.segments)
        self.segments.append(Segment(self.refuses))
        return self.segments[-1]

    def push(self, *frames: Frame, pace: float = 0.034) -> None:
        for frame in frames:
            self.segmenter.push(frame)
            if isinstance(frame, AccessUnit):
                self.clock.now += pace

    def pictures(self) -> list[list[AccessUnit]]:
        return [[f for f in s.frames() if isinstance(f, AccessUnit)] for s in self.segments]


def moved(units: list[AccessUnit], offset: int) -> list[AccessUnit]:
    return [AccessUnit(unit.nals, unit.pts + offset, unit.dts + offset, unit.key) for unit in units]


def as_rtp_gives_them(units: list[AccessUnit]) -> list[AccessUnit]:
    return [AccessUnit(unit.nals, unit.pts, unit.pts, unit.key) for unit in units]


def without_sets(unit: AccessUnit) -> AccessUnit:
    nals = [nal for nal in unit.nals if nal_type(nal) not in (NalType.SPS, NalType.PPS)]
    return AccessUnit(nals, unit.pts, unit.dts, unit.key)


def test_segments_are_cut_at_key_frames_and_hold_what_went_in(make_sample) -> None:
    sample = make_sample(90)
    uplink = Uplink()
    uplink.push(*sample.video)
    uplink.segmenter.close()
    assert [len(pictures) for pictures in uplink.pictures()] == [30, 30, 30]
    assert [unit for pictures in uplink.pictures() for unit in pictures] == sample.video
    assert all(segment.closed for segment in uplink.segments)


def test_each_frame_is_written_at_once_in_one_piece(make_sample) -> None:
    sample = make_sample(20)
    uplink = Uplink()
    for count, unit in enumerate(sample.video, start=1):
        uplink.push(unit)
        assert len(uplink.segments[0].writes) == count


def test_every_segment_decodes_by_itself(make_sample) -> None:
    sample = make_sample(90, audio="libopus")
    uplink = Uplink(audio=True)
    uplink.push(*sample.frames)
    uplink.segmenter.close()
    for segment in uplink.segments:
        data = b"".join(segment.writes)
        with av.open(io.BytesIO(data), format="mpegts") as container:
            frames = list(container.decode(video=0))
        assert len(frames) == 30
        assert frames[0].key_frame


def test_segments_laid_end_to_end_are_one_stream_to_ffmpeg(make_sample) -> None:
    sample = make_sample(90, audio="libopus")
    uplink = Uplink(audio=True)
    uplink.push(*sample.frames)
    data = b"".join(b"".join(segment.writes) for segment in uplink.segments)
    with av.open(io.BytesIO(data), format="mpegts") as container:
        packets = [packet for packet in container.demux() if packet.size]
        assert not any(packet.is_corrupt for packet in packets)
        assert sum(packet.stream.type == "video" for packet in packets) == 90
        assert sum(packet.stream.type == "audio" for packet in packets) >= len(sample.audio) - 3


def test_a_crowd_of_key_frames_makes_no_crowd_of_segments(make_sample) -> None:
    sample = make_sample(90, gop=3)
    uplink = Uplink()
    uplink.push(*sample.video)
    starts = [pictures[0].dts for pictures in uplink.pictures()]
    assert len(starts) == 3
    assert all(b - a >= TICKS_PER_SECOND for a, b in pairwise(starts))


def test_a_burst_is_one_segment_until_a_second_has_really_passed(make_sample) -> None:
    sample = make_sample(90)
    uplink = Uplink()
    uplink.push(*sample.video, pace=0.001)
    assert len(uplink.segments) == 1


def test_slow_media_is_one_segment_until_a_second_of_it_has_come(make_sample) -> None:
    sample = make_sample(45, gop=10)
    uplink = Uplink()
    uplink.push(*sample.video, pace=1.0)
    assert [len(pictures) for pictures in uplink.pictures()] == [30, 15]


def test_nothing_is_written_before_a_key_frame_with_parameter_sets(make_sample) -> None:
    sample = make_sample(60)
    uplink = Uplink()
    uplink.push(OpusPacket(b"\xfcx", 0), *sample.video[1:30], without_sets(AccessUnit([b"\x65"], 0, 0, True)))
    assert not uplink.segments
    assert uplink.segmenter.frames_before_key == 31
    uplink.push(*sample.video[30:])
    assert uplink.pictures() == [sample.video[30:]]


def test_parameter_sets_are_put_before_each_segment_that_lacks_them(make_sample) -> None:
    sample = make_sample(90)
    uplink = Uplink()
    uplink.push(sample.video[0], *map(without_sets, sample.video[1:]))
    starts = [pictures[0].nals for pictures in uplink.pictures()]
    assert len(starts) == 3
    for nals in starts:
        assert {nal_type(nal) for nal in nals} >= {NalType.SPS, NalType.PPS, NalType.IDR}


def test_parameter_sets_may_come_from_the_session_description_alone(make_sample) -> None:
    sample = make_sample(60)
    sets = [nal for nal in sample.video[0].nals if nal_type(nal) in (NalType.SPS, NalType.PPS)]
    uplink = Uplink(sprop=",".join(base64.b64encode(nal).decode() for nal in sets))
    uplink.push(*map(without_sets, sample.video))
    assert [pictures[0].nals[:2] for pictures in uplink.pictures()] == [sets, sets]


def test_another_resolution_starts_a_segment_at_once(make_sample) -> None:
    small, large = make_sample(10), make_sample(10, size=(320, 176))
    uplink = Uplink()
    uplink.push(*small.video, *moved(large.video, 10 * STEP))
    assert [len(pictures) for pictures in uplink.pictures()] == [10, 10]
    assert uplink.pictures()[1] == moved(large.video, 10 * STEP)


@pytest.mark.parametrize("bframes", [1, 2])
def test_b_frames_that_come_without_decoding_times_get_rising_ones(make_sample, bframes: int) -> None:
    units = moved(make_sample(90, bframes=bframes).video, 90_000)
    uplink = Uplink()
    uplink.push(*as_rtp_gives_them(units))
    written = [unit for pictures in uplink.pictures() for unit in pictures]
    assert [unit.pts for unit in written] == [unit.pts for unit in units]
    assert all(b.dts > a.dts for a, b in pairwise(written))
    assert all(unit.dts <= unit.pts for unit in written)
    assert uplink.segmenter.reordered


def test_decoding_times_rise_over_a_source_that_starts_over(make_sample) -> None:
    sample = make_sample(60)
    uplink = Uplink()
    uplink.push(*moved(sample.video, 10**6), *sample.video)
    dts = [unit.dts for pictures in uplink.pictures() for unit in pictures]
    assert len(dts) == 120
    assert all(b > a for a, b in pairwise(dts))


def test_decoding_times_rise_over_another_encoder_with_another_size_and_clock(make_sample) -> None:
    first, second = make_sample(45), make_sample(45, size=(192, 108))
    for offset in (-9_000_000_000, -3_000, 0, 30_000, 9_000_000_000):
        uplink = Uplink()
        uplink.push(*first.video)
        uplink.segmenter.new_source()
        assert all(segment.closed for segment in uplink.segments)
        uplink.clock.now += 5
        uplink.push(*moved(second.video, offset)[1:2], *moved(second.video, offset))
        pictures = [unit for segment in uplink.pictures() for unit in segment]
        times = [unit.dts for unit in pictures]
        assert len(times) == 90, "the picture before the key frame is left out"
        assert all(later > earlier for earlier, later in pairwise(times))
        assert times[45] - times[44] == pytest.approx(5 * TICKS_PER_SECOND, rel=0.1)


def test_sound_that_is_announced_is_in_the_first_segment(make_sample) -> None:
    sample = make_sample(audio="libopus")
    uplink = Uplink(audio=True)
    uplink.push(*sample.frames)
    sounds = [f for segment in uplink.segments for f in segment.frames() if isinstance(f, OpusPacket)]
    assert sounds == [packet for packet in sample.audio if packet.pts >= sample.video[0].dts][-len(sounds) :]
    assert len(sounds) >= len(sample.audio) - 3


def test_sound_that_comes_later_is_declared_with_the_next_segment(make_sample) -> None:
    sample = make_sample(120)
    uplink = Uplink()
    packets = [OpusPacket(b"\xfc" + bytes([i]), 45_000 + i * 1_800) for i in range(1, 100)]
    both: list[Frame] = [*sample.video, *packets]
    uplink.push(*sorted(both, key=lambda f: f.pts))
    sounds = [sum(isinstance(f, OpusPacket) for f in segment.frames()) for segment in uplink.segments]
    assert sounds[0] == 0
    assert sounds[1] == 50
    assert uplink.segmenter.frames_dropped > 0
    assert [b"Opus" in s.writes[0] for s in uplink.segments] == [False, True, True, True]


def test_sound_that_went_away_is_declared_no_longer(make_sample) -> None:
    sample = make_sample(90)
    uplink = Uplink(audio=True)
    uplink.push(sample.video[0], OpusPacket(b"\xfcx", 10), *sample.video[1:])
    assert [b"Opus" in s.writes[0] for s in uplink.segments] == [True, True, False]


def test_what_a_segment_refuses_is_counted_and_the_next_one_starts_as_ever(make_sample) -> None:
    sample = make_sample(60)
    uplink = Uplink()
    uplink.refuses = True
    uplink.push(*sample.video[:30])
    uplink.refuses = False
    uplink.push(*sample.video[30:])
    assert uplink.segmenter.frames_dropped == 30
    assert uplink.pictures()[1] == sample.video[30:]


def test_a_segment_has_a_limit_and_the_next_one_waits_for_a_key_frame(make_sample) -> None:
    sample = make_sample(60)
    whole = Uplink()
    whole.push(*sample.video)
    limit = sum(map(len, whole.segments[0].writes[:20]))
    uplink = Uplink(max_bytes=limit)
    uplink.push(*sample.video[:30])
    assert [len(pictures) for pictures in uplink.pictures()] == [20]
    assert uplink.segments[0].closed
    assert uplink.segmenter.age == pytest.approx(30 * 0.034), "so that a key frame is asked for"
    uplink.push(*sample.video[30:])
    assert uplink.pictures()[1][0] == sample.video[30]
    assert all(sum(map(len, segment.writes)) <= limit for segment in uplink.segments)
    assert uplink.segmenter.frames_dropped + uplink.segmenter.frames_before_key >= 10


def test_it_can_be_closed_twice_and_ignores_what_comes_later(make_sample) -> None:
    sample = make_sample(30)
    uplink = Uplink()
    uplink.push(*sample.video[:10])
    uplink.segmenter.close()
    uplink.segmenter.close()
    uplink.push(*sample.video)
    assert len(uplink.segments) == 1
    assert uplink.segmenter.segments == 1


@pytest.mark.parametrize("bframes", [0, 2])
def test_after_a_segment_that_was_full_pictures_are_decoded_as_shortly_before_they_are_shown(
    make_sample, bframes: int
) -> None:
    sample = make_sample(150, bframes=bframes, gop=50)
    sizes = [sum(map(len, unit.nals)) for unit in sample.video[:50]]
    uplink = Uplink(max_bytes=sum(sizes) // 2)
    uplink.push(*as_rtp_gives_them(moved(sample.video, 90_000)))
    uplink.segmenter.close()
    assert len(uplink.segments) == 3 and uplink.segmenter.frames_before_key > 0
    shown = [unit for pictures in uplink.pictures() for unit in pictures]
    assert all(before.dts < after.dts for before, after in pairwise(shown))
    assert all(0 <= unit.pts - unit.dts <= (bframes + 2) * STEP for unit in shown)
