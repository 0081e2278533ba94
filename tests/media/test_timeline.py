from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media.frames import AccessUnit, OpusPacket
from gateway.media.opus import duration
from gateway.media.timeline import AUDIO_TOLERANCE, MAX_JUMP, MAX_SKEW, Timeline

STEP = 3_000
PACKETS = [
    *(bytes([config << 3]) for config in (16, 17, 18, 19, 2, 3)),
    *(bytes([config << 3 | 1]) for config in (2, 3)),
    bytes([19 << 3 | 3, 5]),
]
"""Opus packets of 2.5, 5, 10, 20, 40, 60, 80, 120 and 100 ms."""


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def unit(dts: int, delay: int = 0) -> AccessUnit:
    return AccessUnit([b"\x65"], dts + delay, dts, True)


def play(timeline: Timeline, clock: Clock, start: int, count: int) -> list[int]:
    """Output times of `count` pictures from `start` on, at their pace."""
    times = []
    for index in range(count):
        times.append(timeline.video(unit(start + index * STEP)).dts)
        clock.now += 1 / 30
    return times


def test_the_first_source_keeps_its_times() -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    assert play(timeline, clock, 777, 5) == [777 + index * STEP for index in range(5)]
    packet = OpusPacket(b"x", 800)
    assert timeline.audio(packet) == packet


def test_the_first_source_keeps_its_times_also_where_it_begins_with_older_pictures() -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    timeline.new_source(behind=10 * STEP)
    assert play(timeline, clock, 777, 2) == [777, 777 + STEP]
    assert timeline.jumps == 0


def test_a_lost_segment_leaves_a_gap_of_its_length() -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    play(timeline, clock, 0, 30)
    assert timeline.video(unit(3 * 90_000)).dts == 3 * 90_000
    assert timeline.jumps == 0


def test_a_worker_that_starts_over_goes_on_where_the_output_was() -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    before = play(timeline, clock, 500_000, 30)
    clock.now += 2
    after = play(timeline, clock, 0, 3)
    assert abs(after[0] - before[-1] - (2 * 90_000 + STEP)) <= 1
    assert after[2] - after[0] == 2 * STEP
    assert timeline.jumps == 1


def test_a_new_source_may_count_from_anywhere_and_nearby() -> None:
    for start in (0, 90_000, 2**40):
        clock = Clock()
        timeline = Timeline(clock=clock)
        before = play(timeline, clock, 90_000, 30)
        timeline.new_source()
        after = play(timeline, clock, start, 3)
        assert abs(after[0] - before[-1] - STEP) <= 1
        assert timeline.jumps == 1


def test_a_jump_is_bounded_however_long_nothing_came() -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    before = play(timeline, clock, 0, 2)
    clock.now += 7_200
    timeline.new_source()
    assert timeline.video(unit(123)).dts == before[-1] + MAX_JUMP


def test_the_clock_of_a_source_that_leaps_ahead_is_not_followed() -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    before = play(timeline, clock, 0, 30)
    after = play(timeline, clock, 2**33, 2)
    assert abs(after[0] - before[-1] - STEP) <= 1


def test_sound_keeps_its_distance_from_the_picture_over_a_change_of_source() -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    play(timeline, clock, 400_000, 3)
    timeline.new_source()
    assert timeline.audio(OpusPacket(b"early", 77_000)) is None
    picture = timeline.video(unit(77_000))
    placed = timeline.audio(OpusPacket(b"x", 77_500))
    assert placed is not None
    assert placed.pts == picture.dts + 500


def test_sound_of_another_clock_is_dropped_and_counted() -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    play(timeline, clock, 0, 1)
    assert timeline.audio(OpusPacket(b"x", MAX_SKEW + 1)) is None
    assert timeline.audio(OpusPacket(b"x", -MAX_SKEW - 1)) is None
    assert timeline.audio(OpusPacket(b"x", 10)) is not None
    assert timeline.audio(OpusPacket(b"x", 10)) is None
    assert timeline.audio_dropped == 3


def test_a_delay_between_decoding_and_showing_is_kept() -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    play(timeline, clock, 0, 2)
    timeline.new_source()
    placed = timeline.video(unit(10**7, delay=6_000))
    assert placed.pts - placed.dts == 6_000


@given(
    events=st.lists(
        st.tuples(st.integers(-(2**34), 2**34), st.integers(-9_000, 9_000), st.floats(0, 30), st.booleans()),
        max_size=60,
    )
)
def test_output_times_never_go_back_whatever_comes(events: list[tuple[int, int, float, bool]]) -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    video, audio = [], []
    for dts, skew, passed, new in events:
        clock.now += passed
        if new:
            timeline.new_source()
        placed = timeline.video(unit(dts, delay=abs(skew)))
        assert placed.pts >= placed.dts
        video.append(placed.dts)
        sound = timeline.audio(OpusPacket(b"x", dts + skew))
        if sound is not None:
            audio.append(sound.pts)
    assert all(b > a for a, b in pairwise(video))
    assert all(b > a for a, b in pairwise(audio))


def test_pictures_that_another_source_showed_already_go_by_at_once() -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    before = play(timeline, clock, 0, 30)
    timeline.new_source(behind=20 * STEP)
    burst = [timeline.video(unit(700_000 + index * STEP)).dts for index in range(21)]
    assert all(later > earlier for earlier, later in pairwise([before[-1], *burst]))
    assert abs(burst[-1] - before[-1] - STEP) <= 1, "the newest has the present's place"
    assert burst[0] - before[-1] < STEP / 10
    clock.now += 1 / 30
    after = play(timeline, clock, 700_000 + 21 * STEP, 3)
    assert after[0] - burst[-1] == STEP, "and the pace goes on from there"
    timeline.new_source()
    assert play(timeline, clock, 0, 2)[0] - after[-1] >= STEP


def test_what_goes_on_with_another_output_begins_after_it_by_the_time_that_passed() -> None:
    clock = Clock()
    timeline = Timeline(after=5_000_000, clock=clock)
    assert timeline.newest == 5_000_000
    clock.now += 2
    times = play(timeline, clock, 77, 3)
    assert times == [5_180_000 + index * STEP for index in range(3)]
    assert timeline.newest == times[-1]


@pytest.mark.parametrize("packet", PACKETS, ids=lambda packet: f"{duration(packet) / 90:g} ms")
def test_a_new_source_begins_where_the_formers_sound_ends(packet: bytes) -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    picture = play(timeline, clock, 0, 1)[0]
    last = timeline.audio(OpusPacket(packet, picture + STEP))
    timeline.new_source()
    timeline.video(unit(500_000))
    first = timeline.audio(OpusPacket(packet, 500_000))
    assert last is not None
    assert first is not None
    assert first.pts - last.pts >= duration(packet)
    assert timeline.audio_dropped == 0


@given(
    sources=st.lists(
        st.tuples(
            st.sampled_from(PACKETS),
            st.integers(0, 2**34),
            st.integers(-20_000, 20_000),
            st.integers(1, 12),
            st.floats(0, 0.5),
        ),
        min_size=2,
        max_size=6,
    )
)
def test_sound_never_overlaps_whatever_its_packets_length(
    sources: list[tuple[bytes, int, int, int, float]],
) -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    placed: list[OpusPacket] = []
    given_in = 0
    for packet, start, early, pictures, passed in sources:
        clock.now += passed
        timeline.new_source()
        sound, within = start - early, []
        for number in range(pictures):
            timeline.video(unit(start + number * STEP))
            while sound <= start + number * STEP:
                given_in += 1
                out = timeline.audio(OpusPacket(packet, sound))
                sound += duration(packet)
                if out is not None:
                    within.append(out)
            clock.now += 1 / 30
        assert all(later.pts - earlier.pts == duration(packet) for earlier, later in pairwise(within)), (
            "only those at its beginning are left out"
        )
        placed += within
    assert all(
        later.pts - earlier.pts >= duration(earlier.data) - AUDIO_TOLERANCE
        for earlier, later in pairwise(placed)
    )
    assert timeline.audio_dropped == given_in - len(placed)
