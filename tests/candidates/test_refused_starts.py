"""What is lost to those who are paid and refuse the start."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.candidates.refused_starts import ANYBODY, FREE, MAX_KNOWN, SEVERAL, RefusedStarts

HOUR = 3600.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def tries(starts: RefusedStarts, publisher: str | None, *, delivered: float = 0.0) -> bool:
    """A start there, if one may be made; whether it was lost."""
    if starts.why_not("thief", publisher):
        return False
    starts.refused("thief", publisher, "no", delivered=delivered)
    return True


@pytest.mark.parametrize("publisher", ["customer a", ANYBODY])
def test_one_publisher_loses_nine_openings_in_the_first_hour_and_two_in_each_later_one(
    publisher: str | None,
) -> None:
    starts = RefusedStarts(clock := Clock())
    lost = []
    for hour in range(5):
        lost.append(0)
        for second in range(3600):
            clock.now = hour * HOUR + second
            while tries(starts, publisher):
                lost[-1] += 1
    assert lost == [9, 2, 2, 2, 2]


@given(st.lists(st.tuples(st.floats(0, 4000), st.sampled_from("ab")), max_size=60))
def test_whenever_it_is_tried_a_publisher_loses_no_more_than_that(
    history: list[tuple[float, str]],
) -> None:
    starts = RefusedStarts(clock := Clock())
    lost: dict[str, list[float]] = {"a": [], "b": []}
    for pause, publisher in history:
        clock.now += pause
        if tries(starts, publisher, delivered=clock.now):  # it shows pictures to others in between
            lost[publisher].append(clock.now)
    for times in lost.values():
        for since in times:
            assert sum(since <= at < since + HOUR for at in times) <= 9


def test_one_publishers_bad_parameters_keep_nobody_else_away() -> None:
    starts = RefusedStarts(Clock())
    for _ in range(FREE):
        assert not starts.refused("a", "one", "mode must be gray", delivered=0)
        assert starts.why_not("a", "one") == "" and starts.has_refused("a", "one")
    assert not starts.refused("a", "one", "mode must be gray", delivered=0)
    assert "mode must be gray" in starts.why_not("a", "one")
    assert starts.why_not("a", "other") == starts.why_not("b", "one") == ""
    assert not starts.has_refused("a", "other")


def test_who_refuses_several_publishers_is_to_blame_each_time_until_it_shows_a_picture() -> None:
    starts = RefusedStarts(Clock())
    said = [starts.refused("a", f"{number}", "no", delivered=5) for number in range(SEVERAL + 1)]
    assert said == [False] * (SEVERAL - 1) + [True, True]
    assert starts.refused("a", "0", "no", delivered=5)
    assert not starts.refused("a", "0", "no", delivered=6), "it has shown pictures since"


def test_a_refusal_that_is_long_past_counts_for_nothing() -> None:
    starts = RefusedStarts(clock := Clock())
    for _ in range(FREE):
        starts.refused("a", "one", "no", delivered=0)
    clock.now += HOUR
    assert not starts.has_refused("a", "one")
    starts.refused("a", "one", "no", delivered=0)
    assert starts.why_not("a", "one") == ""


def test_the_newest_are_kept_however_many_there_are() -> None:
    starts = RefusedStarts(Clock())
    for number in range(MAX_KNOWN + 1):
        starts.refused(f"{number}", "one", "no", delivered=0)
    assert not starts.has_refused("0", "one") and starts.has_refused("1", "one")
