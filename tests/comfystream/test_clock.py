"""The times that a server's pictures get, however fast it is."""

from __future__ import annotations

import itertools

import pytest

from gateway.comfystream.clock import MAX_BEHIND, ServerClock
from gateway.media.frames import TICKS_PER_SECOND

FPS = 30
STEP = TICKS_PER_SECOND // FPS


def test_the_times_of_a_server_that_keeps_up_stay_as_they_are() -> None:
    clock = ServerClock()
    given = [number * STEP for number in range(60 * FPS)]
    # every tenth comes 80 ms late; the publisher's clock is slow by 0.05 %
    taken = [
        clock.ticks(ticks, 5 + number / FPS * 1.0005 + 0.08 * (number % 10 == 0))
        for number, ticks in enumerate(given)
    ]
    assert taken == given


@pytest.mark.parametrize("made", [5, 14, 25])
def test_a_server_that_makes_fewer_pictures_than_it_receives_does_not_fall_behind(made: int) -> None:
    clock = ServerClock()
    taken = [clock.ticks(number * STEP, 5 + number / made) for number in range(60 * made)]
    assert all(before < after for before, after in itertools.pairwise(taken))
    lasted = (60 * made - 1) / made * TICKS_PER_SECOND
    assert abs(taken[-1] - taken[0] - lasted) < 1.1 * MAX_BEHIND


def test_pictures_after_a_pause_have_the_time_of_their_arrival() -> None:
    clock = ServerClock()
    before = [clock.ticks(number * STEP, 5 + number / FPS) for number in range(FPS)]
    after = clock.ticks(FPS * STEP, 5 + 8)
    assert abs(after - before[0] - 8 * TICKS_PER_SECOND) < 1.1 * MAX_BEHIND
