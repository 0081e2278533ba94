"""How long an orchestrator is left alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.candidates.suspension import CAPACITY_SKIP, LONGEST_BACKOFF, Suspensions, backoff


def test_the_backoff_doubles_from_half_a_minute_to_half_an_hour() -> None:
    assert [backoff(n) for n in range(1, 9)] == [30, 60, 120, 240, 480, 960, 1800, 1800]
    assert backoff(10**6) == LONGEST_BACKOFF


def test_faults_in_a_row_are_remembered_past_the_end_of_a_backoff() -> None:
    suspensions = Suspensions()
    assert suspensions.fault("o", "lost", 0.0).until == 30
    assert suspensions.active("o", 29.9) is not None
    assert suspensions.active("o", 30.0) is None
    assert suspensions.fault("o", "lost again", 40.0).until == 40 + 60
    assert suspensions.active("other", 41.0) is None


def test_half_an_hour_of_good_conduct_ends_the_row() -> None:
    suspensions = Suspensions()
    suspensions.fault("o", "lost", 0.0)
    assert suspensions.fault("o", "lost", 30.0 + LONGEST_BACKOFF).until == 30 + LONGEST_BACKOFF + 30


def test_no_capacity_is_a_short_skip_that_shortens_no_backoff() -> None:
    suspensions = Suspensions()
    skip = suspensions.no_capacity("o", "full", 100.0)
    assert (skip.until, skip.is_fault, skip.seconds_left(105.0)) == (100 + CAPACITY_SKIP, False, 10.0)
    fault = suspensions.fault("o", "lost", 101.0)
    assert fault.until == 131.0
    assert suspensions.no_capacity("o", "full", 102.0) is fault
    assert fault.json(121.0) == {"reason": "lost", "seconds_left": 10.0}


def test_room_ends_a_skip_and_no_backoff() -> None:
    suspensions = Suspensions()
    suspensions.no_capacity("o", "full", 0.0)
    suspensions.room_again("o")
    suspensions.room_again("o")
    assert suspensions.active("o", 1.0) is None
    suspensions.fault("o", "lost", 2.0)
    suspensions.room_again("o")
    assert suspensions.active("o", 3.0) is not None


def test_one_that_is_forgotten_starts_over() -> None:
    suspensions = Suspensions()
    suspensions.fault("o", "lost", 0.0)
    suspensions.forget("o")
    suspensions.forget("o")
    assert suspensions.active("o", 1.0) is None
    assert suspensions.fault("o", "lost", 2.0).faults == 1


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 4000)), max_size=30))
def test_nobody_is_away_for_longer_than_the_limit(events: list[tuple[bool, float]]) -> None:
    suspensions, now = Suspensions(), 0.0
    for is_fault, later in events:
        now += later
        note = suspensions.fault if is_fault else suspensions.no_capacity
        left = note("o", "why", now).seconds_left(now)
        assert 0 < left <= LONGEST_BACKOFF + 1e-6


def test_all_the_streams_of_one_event_are_one_fault() -> None:
    suspensions = Suspensions()
    for _ in range(6):
        assert suspensions.fault("o", "it died", 100.0).faults == 1
    assert suspensions.fault("o", "again", 106.0).faults == 2
