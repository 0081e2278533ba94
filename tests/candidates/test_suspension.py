"""How long an orchestrator is left alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.candidates.suspension import CAPACITY_SKIP, LONGEST_BACKOFF, SuspensionState, backoff


def test_the_backoff_doubles_from_half_a_minute_to_half_an_hour() -> None:
    assert [backoff(n) for n in range(1, 9)] == [30, 60, 120, 240, 480, 960, 1800, 1800]
    assert backoff(10**6) == LONGEST_BACKOFF


def test_faults_in_a_row_are_remembered_past_the_end_of_a_backoff() -> None:
    suspension = SuspensionState()
    assert suspension.fault("lost", 0.0).until == 30
    assert suspension.active(29.9) is not None
    assert suspension.active(30.0) is None
    assert suspension.fault("lost again", 40.0).until == 40 + 60


def test_half_an_hour_of_good_conduct_ends_the_row() -> None:
    suspension = SuspensionState()
    suspension.fault("lost", 0.0)
    assert suspension.fault("lost", 30.0 + LONGEST_BACKOFF).until == 30 + LONGEST_BACKOFF + 30


def test_no_capacity_is_a_short_skip_that_shortens_no_backoff() -> None:
    suspension = SuspensionState()
    skip = suspension.no_capacity("full", 100.0)
    assert (skip.until, skip.is_fault, skip.seconds_left(105.0)) == (100 + CAPACITY_SKIP, False, 10.0)
    fault = suspension.fault("lost", 101.0)
    assert fault.until == 131.0
    assert suspension.no_capacity("full", 102.0) is fault
    assert fault.json(121.0) == {"reason": "lost", "seconds_left": 10.0}


def test_room_ends_a_skip_and_no_backoff() -> None:
    suspension = SuspensionState()
    suspension.no_capacity("full", 0.0)
    suspension.room_again()
    suspension.room_again()
    assert suspension.active(1.0) is None
    suspension.fault("lost", 2.0)
    suspension.room_again()
    assert suspension.active(3.0) is not None


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 4000)), max_size=30))
def test_nobody_is_away_for_longer_than_the_limit(events: list[tuple[bool, float]]) -> None:
    suspension, now = SuspensionState(), 0.0
    for is_fault, later in events:
        now += later
        note = suspension.fault if is_fault else suspension.no_capacity
        left = note("why", now).seconds_left(now)
        assert 0 < left <= LONGEST_BACKOFF + 1e-6


def test_all_the_streams_of_one_event_are_one_fault() -> None:
    suspension = SuspensionState()
    for _ in range(6):
        assert suspension.fault("it died", 100.0).faults == 1
    assert suspension.fault("again", 106.0).faults == 2


def test_a_fault_that_was_none_is_forgiven_unless_there_was_another() -> None:
    suspension = SuspensionState()
    suspension.fault("no picture", 0)
    suspension.forgive("another reason")
    assert suspension.active(1) is not None
    suspension.forgive("no picture")
    assert suspension.active(1) is None
    suspension.fault("no picture", 10)
    suspension.fault("no picture, again", 60)
    suspension.forgive("no picture, again")
    assert suspension.active(61) is not None


def test_who_took_pay_is_not_forgiven_while_that_suspension_lasts() -> None:
    suspension = SuspensionState()
    assert not suspension.fault("no picture", 0.0, took_pay=True).forgivable
    assert not suspension.fault("channels closed", 10.0).forgivable
    assert suspension.fault("channels closed", 100.0).forgivable


def test_want_of_room_does_not_end_a_row_of_faults() -> None:
    suspension = SuspensionState()
    suspension.fault("no picture", 0.0)
    suspension.no_capacity("full", 31.0)
    assert suspension.fault("no picture", 50.0).faults == 2
