"""When faults of several addresses are the fault of none."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.candidates.outage import FIRST_PAUSE
from gateway.candidates.suspension import ONE_EVENT
from gateway.candidates.trust import LASTED, TrackedJob, Trust
from tests.candidates.test_trust import Clock, shows


@pytest.fixture
def clock() -> Clock:
    return Clock()


def working(trust: Trust, clock: Clock, *keys: str) -> dict[str, TrackedJob]:
    """A job at each of these addresses has shown pictures for a while, and still does."""
    starts = {key: trust.begin(key) for key in keys}
    for start in starts.values():
        shows(start, clock, LASTED)
    for start in starts.values():
        start.picture()
    return starts


def start_empty(trust: Trust, key: str) -> None:
    """One start there takes a payment and shows nothing."""
    start = trust.begin(key)
    start.paid()
    trust.fault(key, "no picture", took_pay=True)
    start.end(Fraction(60))


def unforgivable(trust: Trust, key: str) -> bool:
    suspension = trust.suspension(key)
    return suspension is not None and not suspension.forgivable


def test_all_who_show_pictures_stop_at_once_and_the_next_picture_takes_their_faults_back(
    clock: Clock,
) -> None:
    trust = Trust(clock=clock)
    starts = working(trust, clock, "a", "b")
    trust.fault("a", "its channels closed", took_pay=False)
    start_empty(trust, "b")
    starts["b"].picture()
    trust.fault("b", "its channels closed", took_pay=False)
    for key in ("a", "b"):
        start_empty(trust, key)
        assert not unforgivable(trust, key)
    clock.now += 2
    trust.begin("a").picture()
    for key in ("a", "b"):
        assert trust.record(key).suspension.active(clock.now) is None
        assert (trust.record(key).empty_starts, trust.record(key).doubted) == (0, False)


def test_one_who_stops_while_another_shows_pictures_is_at_fault(clock: Clock) -> None:
    trust = Trust(clock=clock)
    honest = working(trust, clock, "a", "b")["b"]
    trust.fault("a", "its channels closed", took_pay=False)
    honest.picture()
    start_empty(trust, "a")
    assert unforgivable(trust, "a")
    honest.picture()
    assert unforgivable(trust, "a")
    assert trust.record("a").empty_starts == 1


def test_where_somebody_else_shows_the_pictures_the_faults_stand(clock: Clock) -> None:
    trust = Trust(clock=clock)
    working(trust, clock, "a", "b")
    trust.fault("a", "its channels closed", took_pay=False)
    trust.fault("b", "its channels closed", took_pay=False)
    trust.begin("c").picture()
    for key in ("a", "b"):
        assert trust.record(key).suspension.active(clock.now) is not None
    start_empty(trust, "a")
    assert unforgivable(trust, "a"), "the outage is over"


@given(st.lists(st.sampled_from(["t1", "t2", "t3"]), max_size=12), st.booleans())
def test_who_never_delivered_is_excused_by_no_outage(attempts: list[str], outage: bool) -> None:
    """However many addresses of a thief fail while those who delivered have stopped."""
    clock = Clock()
    trust = Trust(clock=clock)
    working(trust, clock, "a", "b")
    if outage:
        trust.fault("a", "its channels closed", took_pay=False)
        trust.fault("b", "its channels closed", took_pay=False)
    for key in attempts:
        start_empty(trust, key)
        trust.fault(key, "its channels closed", took_pay=False)
    trust.begin("a").picture()
    for key in set(attempts):
        assert unforgivable(trust, key)
        assert trust.record(key).empty_starts == attempts.count(key)


def test_thieves_alone_take_few_payments_while_their_pictures_have_stopped(clock: Clock) -> None:
    """For an hour, 50 streams want a job of one of twenty addresses that gave 10 s of pictures each."""
    trust, keys = Trust(clock=clock), [f"t{n}" for n in range(20)]
    working(trust, clock, *keys)
    for key in keys:
        trust.fault(key, "its channels closed", took_pay=False)
    began, paid = clock.now, 0
    while clock.now < began + 3600:
        for key in keys:
            record = trust.record(key)
            if not unforgivable(trust, key) and not trust.why_wait(key) and record.may_start:
                start_empty(trust, key)
                paid += 1
        clock.now += 0.1
    assert paid <= 14, "pauses of 0.5 s, 1 s, 2 s .. fill the hour, for all of them together"


def test_in_an_outage_one_start_at_a_time_tries_again_at_growing_intervals(clock: Clock) -> None:
    trust = Trust(clock=clock)
    working(trust, clock, "a", "b")
    trust.fault("a", "its channels closed", took_pay=False)
    trust.fault("b", "its channels closed", took_pay=False)
    assert not trust.why_wait("a")
    for pause in (FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE):
        start_empty(trust, "a")
        clock.now += pause - 0.01
        assert trust.why_wait("a")
        assert trust.why_wait("b")
        clock.now += 0.02
        assert not trust.why_wait("b")


def test_after_a_fault_one_start_at_a_time_is_given_to_whomever_until_a_picture_comes(clock: Clock) -> None:
    trust = Trust(clock=clock)
    start = trust.begin("a")
    shows(start, clock, 100)
    honest = working(trust, clock, "b")["b"]
    trust.fault("a", "its channels closed", took_pay=False)
    assert trust.record("a").allowed == 1
    honest.picture()
    trust.begin("a").picture()
    assert trust.record("a").allowed is None


def test_who_delivered_before_and_fails_in_an_outage_is_at_fault_once(clock: Clock) -> None:
    trust = Trust(clock=clock)
    former = working(trust, clock, "idle")["idle"]
    former.end(Fraction(60))
    working(trust, clock, "a")
    trust.fault("a", "its channels closed", took_pay=False)
    for _ in range(6):
        start_empty(trust, "idle")
    assert unforgivable(trust, "idle")
    fault = trust.record("idle").suspension.last_fault
    assert fault is not None
    assert fault.faults == 1


def test_faults_that_lie_apart_are_no_outage(clock: Clock) -> None:
    trust = Trust(clock=clock)
    honest = working(trust, clock, "a", "b")["b"]
    trust.fault("a", "its channels closed", took_pay=False)
    for _ in range(10):
        clock.now += ONE_EVENT / 5
        honest.picture()
    honest.end(Fraction(60))
    clock.now += 30
    start_empty(trust, "a")
    assert unforgivable(trust, "a")
