from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from structlog.testing import capture_logs

from gateway.media.fanout import Fanout
from gateway.media.frames import AccessUnit, Frame, OpusPacket
from gateway.media.gop import GopBuffer
from gateway.media.h264 import NalType, nal_type

STEP = 3_000


class Clock:
    def __init__(self) -> None:
        self.now = 3.0

    def __call__(self) -> float:
        return self.now


class Viewer:
    def __init__(self) -> None:
        self.video: list[tuple[list[bytes], int, bool]] = []
        self.audio: list[tuple[bytes, int]] = []
        self.is_congested = False
        self.error: Exception | None = None

    def send_video(self, payloads: Sequence[bytes], timestamp: int, key: bool) -> None:
        if self.error:
            raise self.error
        self.video.append((list(payloads), timestamp, key))

    def send_audio(self, payload: bytes, timestamp: int) -> None:
        self.audio.append((payload, timestamp))

    def congested(self) -> bool:
        return self.is_congested


class Packetizer:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, nals: Sequence[bytes]) -> list[bytes]:
        self.calls += 1
        return list(nals)


class Output:
    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.packetizer = Packetizer()
        self.fanout = Fanout(packetize=self.packetizer, clock=self.clock, **options)

    def push(self, *frames: Frame) -> None:
        for frame in frames:
            self.fanout.push(frame)
            if isinstance(frame, AccessUnit):
                self.clock.now += 1 / 30

    def watch(self) -> Viewer:
        viewer = Viewer()
        self.fanout.add(viewer)
        return viewer


def moved(units: list[AccessUnit], offset: int) -> list[AccessUnit]:
    return [AccessUnit(unit.nals, unit.pts + offset, unit.dts + offset, unit.key) for unit in units]


def bare(unit: AccessUnit) -> AccessUnit:
    nals = [nal for nal in unit.nals if nal_type(nal) not in (NalType.SPS, NalType.PPS)]
    return AccessUnit(nals, unit.pts, unit.dts, unit.key)


def times(viewer: Viewer) -> list[int]:
    return [timestamp for _, timestamp, _ in viewer.video]


def test_each_picture_is_packetised_once_for_all(make_sample) -> None:
    sample = make_sample(40)
    output = Output()
    viewers = [output.watch() for _ in range(5)]
    output.push(*sample.video)
    assert output.packetizer.calls == 40
    for viewer in viewers:
        assert viewer.video == [(unit.nals, unit.pts, unit.key) for unit in sample.video]
    assert len(output.fanout) == 5


def test_who_joins_gets_the_current_group_at_once_and_then_what_comes(make_sample) -> None:
    sample = make_sample(60)
    output = Output()
    output.push(*sample.video[:40])
    late = output.watch()
    assert times(late) == [unit.pts for unit in sample.video[30:40]]
    assert late.video[0][2]
    output.push(*sample.video[40:])
    assert times(late) == [unit.pts for unit in sample.video[30:]]
    assert output.packetizer.calls == 60


def test_who_waits_before_there_is_a_stream_starts_with_its_key_frame(make_sample) -> None:
    sample = make_sample(60)
    output = Output()
    viewer = output.watch()
    output.push(*sample.video[5:40])
    assert times(viewer) == [unit.pts for unit in sample.video[30:40]]
    assert output.fanout.frames_before_key == 25


def test_who_has_to_wait_for_a_key_frame_is_told_apart(make_sample) -> None:
    fanout = Fanout()
    assert not fanout.add(Viewer())
    for unit in make_sample().video[:3]:
        fanout.push(unit)
    assert fanout.add(Viewer())


def test_a_key_frame_is_needed_while_a_new_viewer_waits_and_not_for_one_that_is_slow(make_sample) -> None:
    sample = make_sample(90)
    needed: list[int] = []
    output = Output(max_gop_bytes=1, on_key_frame_needed=lambda: needed.append(1))
    slow = output.watch()
    output.push(*sample.video[:10])
    slow.is_congested = True
    output.push(*sample.video[10:15])
    assert not needed
    output.watch()
    output.push(*sample.video[15:30])
    assert len(needed) == 15
    output.push(*sample.video[30:40])
    assert len(needed) == 15


def test_parameter_sets_go_before_every_key_frame(make_sample) -> None:
    sample = make_sample(60)
    output = Output()
    output.push(sample.video[0], *map(bare, sample.video[1:]))
    late = output.watch()
    kinds = [nal_type(nal) for nal in late.video[0][0]]
    assert {NalType.SPS, NalType.PPS, NalType.IDR} <= set(kinds)
    assert output.fanout.size == (160, 120)


def test_a_congested_viewer_skips_to_a_key_frame_and_hurts_nobody(make_sample) -> None:
    sample = make_sample(90)
    output = Output()
    slow, quick = output.watch(), output.watch()
    output.push(*sample.video[:10])
    slow.is_congested = True
    output.push(*sample.video[10:12])
    slow.is_congested = False
    output.push(*sample.video[12:40])
    assert times(slow) == [unit.pts for unit in [*sample.video[:10], *sample.video[30:40]]]
    assert times(quick) == [unit.pts for unit in sample.video[:40]]
    assert output.fanout.frames_skipped == 20


def test_a_key_frame_is_no_use_to_a_viewer_that_is_still_congested(make_sample) -> None:
    sample = make_sample(90)
    output = Output()
    slow = output.watch()
    slow.is_congested = True
    output.push(*sample.video[:35])
    slow.is_congested = False
    output.push(*sample.video[35:])
    assert times(slow) == [unit.pts for unit in sample.video[60:]]


def test_a_viewer_that_raises_is_removed_and_the_others_stay(make_sample) -> None:
    sample = make_sample(20)
    output = Output()
    bad, good = output.watch(), output.watch()
    bad.error = ConnectionError("gone")
    with capture_logs() as logs:
        output.push(*sample.video)
    assert [entry["event"] for entry in logs] == ["viewer removed"]
    assert len(good.video) == 20
    assert len(output.fanout) == 1
    assert output.fanout.viewers_failed == 1


def test_a_viewer_that_raises_while_it_joins_is_removed(make_sample) -> None:
    output = Output()
    output.push(*make_sample(20).video)
    bad = Viewer()
    bad.error = ConnectionError("gone")
    with capture_logs():
        output.fanout.add(bad)
    assert len(output.fanout) == 0


def test_a_viewer_may_leave_twice_and_gets_nothing_more(make_sample) -> None:
    sample = make_sample(20)
    output = Output()
    viewer = output.watch()
    output.fanout.add(viewer)
    output.push(*sample.video[:10])
    output.fanout.remove(viewer)
    output.fanout.remove(viewer)
    output.push(*sample.video[10:])
    assert len(viewer.video) == 10
    assert len(output.fanout) == 0


def test_a_viewer_may_leave_while_it_is_sent_to(make_sample) -> None:
    sample = make_sample(10)
    output = Output()
    leaving, staying = output.watch(), output.watch()

    def leave(payloads: Sequence[bytes], timestamp: int, key: bool) -> None:
        output.fanout.remove(leaving)

    leaving.send_video = leave  # type: ignore[method-assign]
    output.push(*sample.video)
    assert len(staying.video) == 10


def test_sound_passes_with_its_own_clock_in_step_with_the_picture(make_sample) -> None:
    sample = make_sample(10)
    output = Output()
    viewer = output.watch()
    output.push(OpusPacket(b"early", 0), sample.video[0])
    start = sample.video[0].dts
    output.push(*(OpusPacket(bytes([i]), start + 1_800 * i) for i in range(4)))
    assert [payload for payload, _ in viewer.audio] == [bytes([i]) for i in range(4)]
    assert [b - a for (_, a), (_, b) in pairwise(viewer.audio)] == [960] * 3
    late = output.watch()
    assert late.audio == viewer.audio


def test_timestamps_rise_over_a_change_of_source_and_start_with_its_key_frame(make_sample) -> None:
    sample, other = make_sample(40), make_sample(60, size=(320, 176))
    output = Output()
    viewer = output.watch()
    output.push(*moved(sample.video, 10**8))
    output.fanout.new_source()
    output.push(*other.video[3:])
    assert [key for _, _, key in viewer.video][40]
    assert len(viewer.video) == 40 + 30
    assert all(b > a for a, b in pairwise(times(viewer)))
    assert times(viewer)[41] - times(viewer)[40] == STEP
    assert output.fanout.size == (320, 176)


def test_what_another_source_has_made_already_goes_out_at_once_and_costs_no_time(make_sample) -> None:
    sample, other = make_sample(40), make_sample(40)
    output = Output()
    viewer = output.watch()
    output.push(*sample.video)
    output.fanout.new_source(moved(other.video[:10], 10**8))
    output.push(*moved(other.video[10:], 10**8))
    assert len(viewer.video) == 80
    shown = times(viewer)
    assert all(b > a for a, b in pairwise(shown))
    assert shown[50] - shown[39] <= 2 * STEP + 1, "ten pictures in the time of one"
    assert [b - a for a, b in pairwise(shown[50:])] == [STEP] * 29


def test_timestamps_go_on_above_32_bits(make_sample) -> None:
    sample = make_sample(40)
    output = Output()
    viewer = output.watch()
    output.push(*moved(sample.video, 2**32 - 10 * STEP))
    assert all(b - a == STEP for a, b in pairwise(times(viewer)))


def test_a_group_that_outgrows_its_bounds_is_let_go(make_sample) -> None:
    sample = make_sample(60)
    output = Output(max_gop_entries=12)
    output.push(*sample.video[:20])
    assert output.fanout.held_bytes == 0
    late = output.watch()
    output.push(*sample.video[20:35])
    assert times(late) == [unit.pts for unit in sample.video[30:35]]


def test_after_a_clear_nothing_old_is_shown(make_sample) -> None:
    output = Output()
    output.push(*make_sample(20).video)
    output.fanout.clear()
    assert not output.watch().video


class Tap:
    def __init__(self) -> None:
        self.frames: list[Frame | None] = []
        """None where the stream ended."""

    def on_frame(self, frame: Frame) -> None:
        self.frames.append(frame)

    def on_clear(self) -> None:
        self.frames.append(None)


def test_held_frames_and_what_a_tap_gets_are_the_output_before_it_was_packetised(make_sample) -> None:
    sample, other = make_sample(60, bframes=2, audio="libopus"), make_sample(40)
    fanout = Fanout()
    tap = Tap()
    assert fanout.held_frames() == []
    cut = next(i for i, one in enumerate(sample.frames) if one is sample.video[40])
    for one in sample.frames[:cut]:
        fanout.push(one)
    held = fanout.held_frames()
    assert held[0] == sample.video[30]
    assert [one for one in held if isinstance(one, AccessUnit)] == sample.video[30:40]
    assert [one for one in held if isinstance(one, OpusPacket)]
    fanout.taps.append(tap)
    for one in sample.frames[cut:]:
        fanout.push(one)
    assert [one for one in tap.frames if isinstance(one, AccessUnit)] == sample.video[40:]
    played = [*held, *tap.frames]
    assert played == [one for one in sample.frames if one in played]
    fanout.new_source()
    fanout.push(bare(other.video[0]))
    fanout.push(other.video[0])
    moved_on = tap.frames[-1]
    assert isinstance(moved_on, AccessUnit)
    assert moved_on.dts > sample.video[-1].dts
    fanout.clear()
    assert tap.frames[-1] is None


def test_a_second_output_that_is_fed_by_the_first_shows_the_same(make_sample) -> None:
    sample = make_sample(60, audio="libopus")
    first, second = Output(), Output()
    first.push(*sample.frames[:70])
    tap = Tap()
    first.fanout.taps.append(tap)
    second.fanout.new_source(first.fanout.held_frames())
    here, there = first.watch(), second.watch()
    assert there.video == here.video
    first.push(*sample.frames[70:])
    second.push(*(one for one in tap.frames if one is not None))
    assert there.video == here.video
    assert there.audio == here.audio
    assert second.fanout.size == first.fanout.size


def test_the_rate_of_the_output_is_measured(make_sample) -> None:
    sample = make_sample(90)
    output = Output()
    assert output.fanout.fps == output.fanout.bitrate_bps == 0
    output.push(*sample.video)
    assert abs(output.fanout.fps - 30) < 1
    size = sum(len(nal) for unit in sample.video[-60:] for nal in unit.nals)
    assert abs(output.fanout.bitrate_bps - size * 4) < size
    output.clock.now += 10
    assert output.fanout.fps == 0


def test_the_buffer_for_a_new_job_holds_the_frames_since_the_last_key_frame(make_sample) -> None:
    sample = make_sample(60)
    gop = GopBuffer()
    for unit in sample.video[1:30]:
        gop.push(unit)
    gop.push(OpusPacket(b"early", 0))
    assert gop.frames() == []
    for unit in sample.video[:40]:
        gop.push(unit)
    sound = OpusPacket(b"sound", 0)
    gop.push(sound)
    assert gop.frames() == [*sample.video[30:40], sound]
    assert gop.holds_audio
    assert gop.size == sum(len(nal) for unit in sample.video[30:40] for nal in unit.nals) + 5
    gop.clear()
    assert (len(gop), gop.size) == (0, 0)


def test_the_buffer_for_a_new_job_lets_a_group_go_that_is_too_large(make_sample) -> None:
    sample = make_sample(60)
    gop = GopBuffer(max_bytes=sum(map(len, sample.video[0].nals)) + 1)
    gop.push(sample.video[0])
    assert len(gop) == 1
    gop.push(sample.video[1])
    assert (gop.frames(), gop.size, gop.overflows) == ([], 0, 1)
    gop.push(sample.video[2])
    assert gop.frames() == []
