from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media.decode_order import DecodeOrder
from gateway.media.frames import AccessUnit
from gateway.media.h264 import ParameterSets
from gateway.media.sps import Sps

STEP = 3_000


def run(order: DecodeOrder, pts: list[int], sps: Sps | None = None) -> list[int]:
    return [order.dts(AccessUnit([], time, time, index == 0), sps) for index, time in enumerate(pts)]


def rises(times: list[int]) -> bool:
    return all(b > a for a, b in pairwise(times))


def sps_of(make_sample, bframes: int) -> Sps:
    sets = ParameterSets()
    sets.observe(make_sample(bframes=bframes).video[0].nals)
    assert sets.sps is not None
    return sets.sps


def test_without_b_frames_a_picture_is_decoded_when_it_is_shown() -> None:
    pts = [index * STEP for index in range(20)]
    order = DecodeOrder()
    assert run(order, pts) == pts
    assert not order.reordered


@pytest.mark.parametrize("bframes", [1, 2, 3])
def test_the_encoders_own_order_is_found_again_where_the_sps_declares_it(make_sample, bframes: int) -> None:
    sample = make_sample(bframes=bframes)
    order = DecodeOrder()
    sps = sps_of(make_sample, bframes)
    units = sample.video
    dts = [order.dts(AccessUnit(unit.nals, unit.pts, unit.pts, unit.key), sps) for unit in units]
    assert rises(dts)
    assert all(time <= unit.pts for time, unit in zip(dts, units, strict=True))
    # From the first shown picture on it is the encoder's DTS in all but its starting point.
    depth = sps.reorder_frames
    assert dts[depth:] == [unit.dts + (dts[depth] - units[depth].dts) for unit in units[depth:]]
    assert order.reordered


def test_b_frames_that_nobody_declared_are_learned_from_the_first_group() -> None:
    order = DecodeOrder()
    pts = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11]
    times = [time * STEP for time in pts]
    dts = run(order, times)
    assert rises(dts)
    assert order.reordered
    assert all(decoded <= shown for decoded, shown in zip(dts[4:], times[4:], strict=True))


@given(
    st.lists(st.integers(1, 9_000), min_size=2, max_size=60).flatmap(
        lambda steps: st.tuples(st.just(steps), st.lists(st.booleans(), min_size=60, max_size=60))
    )
)
def test_it_rises_whatever_neighbours_change_places(case: tuple[list[int], list[bool]]) -> None:
    steps, swaps = case
    times = [sum(steps[: index + 1]) for index in range(len(steps))]
    index = 0
    while index + 2 < len(times):
        if swaps[index]:
            times[index + 1], times[index + 2] = times[index + 2], times[index + 1]
            index += 1
        index += 1
    assert rises(run(DecodeOrder(), times))


def test_a_source_that_knows_its_decoding_times_is_believed(make_sample) -> None:
    sample = make_sample(bframes=2)
    sps = sps_of(make_sample, 2)
    order = DecodeOrder()
    assert [order.dts(unit, sps) for unit in sample.video] == [unit.dts for unit in sample.video]


def test_after_a_jump_back_of_the_clock_it_starts_afresh() -> None:
    order = DecodeOrder()
    run(order, [10**9, 10**9 + STEP])
    assert order.dts(AccessUnit([], 0, 0, True), None) == 0


def test_a_clock_that_starts_over_soon_is_no_b_frame() -> None:
    order = DecodeOrder()
    times = [at * STEP for at in range(240)]
    run(order, times)
    assert run(order, times[:30]) == times[:30]
    assert not order.reordered
