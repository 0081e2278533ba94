from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media.clock import Unwrapper, VideoClock


@given(
    bits=st.sampled_from([16, 32, 33]),
    start=st.integers(min_value=0, max_value=2**40),
    steps=st.lists(st.integers(min_value=-30_000, max_value=32_767), max_size=200),
)
def test_steps_below_half_the_range_come_back_whatever_wraps(bits: int, start: int, steps: list[int]) -> None:
    mask = (1 << bits) - 1
    unwrapper = Unwrapper(bits)
    truth = start
    base = unwrapper.unwrap(start & mask) - start
    for step in steps:
        truth += step
        assert unwrapper.unwrap(truth & mask) == truth + base


def test_a_late_value_from_before_the_wrap_is_below_the_newer_one() -> None:
    unwrapper = Unwrapper(32)
    assert unwrapper.unwrap(2**32 - 1) == 2**32 - 1
    assert unwrapper.unwrap(1) == 2**32 + 1
    assert unwrapper.unwrap(2**32 - 2) == 2**32 - 2


def test_after_a_reset_a_value_stands_for_itself() -> None:
    unwrapper = Unwrapper(16)
    unwrapper.unwrap(60_000)
    unwrapper.unwrap(10)
    unwrapper.reset()
    assert unwrapper.unwrap(7) == 7


def _run(rate: int, jitter: float, seconds: float = 3.0) -> tuple[VideoClock, list[int]]:
    chance = random.Random(4)
    clock = VideoClock()
    start = 2**32 - rate // 2  # wraps after half a second
    ticks = []
    for index in range(int(seconds * 30)):
        arrival = 100 + index / 30 + (chance.random() * jitter if index else 0.0)
        ticks.append(clock.ticks((start + index * rate // 30) % 2**32, arrival))
    return clock, ticks


def test_a_publisher_at_one_megahertz_is_corrected_from_its_first_frames_on() -> None:
    clock, ticks = _run(1_000_000, jitter=0.02)
    assert clock.corrected
    assert all(abs((b - a) - 3000) <= 1 for a, b in pairwise(ticks))


def test_a_publisher_at_ninety_kilohertz_is_left_alone() -> None:
    clock, ticks = _run(90_000, jitter=0.02)
    assert not clock.corrected
    assert all(b - a == 3000 for a, b in pairwise(ticks))


@pytest.mark.parametrize("stall", [1.0, 20.0])
def test_the_burst_after_a_stall_is_not_taken_for_the_wrong_clock(stall: float) -> None:
    clock = VideoClock()
    for index in range(30):
        clock.ticks(index * 3000, index / 30)
    for index in range(30, 30 + int(stall * 30)):
        assert clock.ticks(index * 3000, 1 + stall) == index * 3000
    assert not clock.corrected


@pytest.mark.parametrize("held_back", [2, 10, 60, 300])
def test_frames_that_come_at_once_at_the_start_are_not_taken_for_the_wrong_clock(held_back: int) -> None:
    clock = VideoClock()
    for index in range(held_back + 60):
        arrival = 5.0 + max(0, index - held_back) / 30
        assert clock.ticks(index * 3000, arrival) == index * 3000
    assert not clock.corrected
