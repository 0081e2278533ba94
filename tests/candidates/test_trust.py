"""How many starts an address gets for what it has delivered, and what its faults cost it."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.candidates.suspension import LONGEST_BACKOFF
from gateway.candidates.trust import LASTED, LONGEST_UNPROVEN_BACKOFF, PROVEN_AFTER, TrackedJob, Trust

THIEF = "0x" + "1" * 40


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def shows(start: TrackedJob, clock: Clock, seconds: float) -> None:
    """Pictures for so long, four a second."""
    start.picture()
    for _ in range(round(4 * seconds)):
        clock.now += 0.25
        start.picture()


def test_a_stranger_gets_one_start_until_its_first_picture(clock: Clock) -> None:
    trust = Trust(clock=clock)
    assert trust.record("a").may_start
    first = trust.begin("a")
    assert not trust.record("a").may_start
    first.picture()
    assert trust.record("a").may_start


def test_each_job_that_lasts_doubles_the_starts_and_a_minute_of_pictures_lifts_the_limit(
    clock: Clock,
) -> None:
    trust, allowed = Trust(clock=clock), []
    for _ in range(7):
        allowed.append(trust.record("a").allowed)
        start = trust.begin("a")
        shows(start, clock, LASTED)
        start.end(Fraction(60))
    assert allowed == [1, 2, 4, 8, 16, 32, None]
    assert trust.record("a").delivered == 7 * LASTED
    assert trust.record("a").delivered >= PROVEN_AFTER
    assert trust.record("a").paid == 420


def test_a_start_that_took_pay_and_showed_nothing_sets_it_back_to_one(clock: Clock) -> None:
    trust = Trust(clock=clock)
    start = trust.begin("a")
    shows(start, clock, LASTED)
    assert trust.record("a").allowed == 2
    trust.fault("a", "no picture", took_pay=True)
    assert (trust.record("a").allowed, trust.record("a").empty_starts) == (1, 1)


def start_empty(trust: Trust, key: str, publisher: str) -> None:
    trust.fault(key, "no picture", took_pay=True, publisher=publisher)


def test_a_start_that_nobody_could_show_is_taken_back_and_so_is_the_publishers_next(clock: Clock) -> None:
    trust = Trust(clock=clock)
    for _ in range(3):
        start_empty(trust, "a", "ann")
        trust.forgive("a", "ann")
        assert trust.record("a").empty_starts == 0
        assert trust.suspension("a") is None
        assert trust.failed_for("a", "ann"), "she is given others first"
        assert not trust.failed_for("a", "bob")
        clock.now += 60


def test_blame_stays_where_another_publishers_start_failed_there_too(clock: Clock) -> None:
    trust = Trust(clock=clock)
    start_empty(trust, "a", "ann")
    trust.forgive("a", "ann")
    start_empty(trust, "a", "bob")
    trust.forgive("a", "bob")
    trust.forgive("a", "ann")
    assert trust.suspension("a") is not None
    assert trust.record("a").empty_starts == 1


def test_a_picture_ends_what_is_known_of_publishers_empty_starts(clock: Clock) -> None:
    trust = Trust(clock=clock)
    start_empty(trust, "a", "ann")
    trust.begin("a").picture()
    assert not trust.failed_for("a", "ann")
    start_empty(trust, "a", "bob")
    faults = trust.record("a").suspension.last_fault
    trust.forgive("a", "bob")
    assert faults is not None
    assert faults.faults == 2
    left = trust.record("a").suspension.last_fault
    assert left is not None
    assert (left.faults, left.forgivable) == (1, False), "the fault before the picture stays"


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["ann", "bob"]), st.booleans()), max_size=40)
)
def test_forgiving_never_leaves_more_faults_than_there_were(
    events: list[tuple[str, str, bool]],
) -> None:
    clock = Clock()
    trust = Trust(clock=clock)
    for key, publisher, picture in events:
        clock.now += 7
        before = trust.record(key).empty_starts
        start_empty(trust, key, publisher)
        others = set(trust.record(key).before_empty_start) - {publisher}
        trust.forgive(key, publisher)
        assert trust.record(key).empty_starts == before + bool(others)
        if picture:
            trust.begin(key).picture()


def test_a_gap_between_pictures_is_no_delivery(clock: Clock) -> None:
    trust = Trust(clock=clock)
    start = trust.begin("a")
    for _ in range(5):
        start.picture()
        clock.now += 29
    assert trust.record("a").delivered == 4


def test_each_start_that_took_pay_counts_and_what_fails_together_after_pictures_counts_once(
    clock: Clock,
) -> None:
    trust = Trust(clock=clock)
    assert [trust.fault("thief", "nothing", took_pay=True).faults for _ in range(3)] == [1, 2, 3]
    assert not trust.record("thief").suspension.last_fault.forgivable  # type: ignore[union-attr]
    assert [trust.fault("dead", "closed", took_pay=False).faults for _ in range(3)] == [1, 1, 1]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100_000)), min_size=1, max_size=30), st.booleans())
def test_who_never_delivered_is_left_for_a_day_at_most_and_the_others_for_half_an_hour(
    faults: list[tuple[bool, float]], delivered: bool
) -> None:
    clock = Clock()
    trust = Trust(clock=clock)
    if delivered:
        shows(trust.begin(THIEF), clock, 1)
    longest = LONGEST_BACKOFF if delivered else LONGEST_UNPROVEN_BACKOFF
    for took_pay, later in faults:
        clock.now += later
        left = trust.fault(THIEF, "why", took_pay=took_pay).seconds_left(clock.now)
        assert 0 < left <= longest + 1e-6


def test_a_thief_gets_one_preload_for_each_back_off_whatever_the_number_of_streams() -> None:
    """For a day, 50 streams want a job at every second; none shows a picture within 30 s."""
    clock = Clock()
    trust, paid, under_way = Trust(clock=clock), 0, None
    for second in range(86_400):
        clock.now = 1000.0 + second
        if under_way is not None and clock.now - under_way[0] >= 30:
            trust.fault(THIEF, "no picture", took_pay=True)
            under_way[1].end(Fraction(1))
            under_way = None
        record = trust.record(THIEF)
        for _ in range(50):
            if record.may_start and record.suspension.active(clock.now) is None:
                under_way = (clock.now, trust.begin(THIEF))
                paid += 1
                record = trust.record(THIEF)
    assert paid == 12, "back-offs of 30 s, 60 s, .. 17 h fill the day"


def test_fifty_publishers_at_once_on_an_unknown_orchestrator_are_all_served_within_their_wait(
    clock: Clock,
) -> None:
    """Each start takes 2 s until its first picture; a publisher waits 30 s for its turn."""
    trust, waiting = Trust(clock=clock), 50
    begun: list[tuple[float, TrackedJob]] = []
    while waiting and clock.now < 1030:
        while waiting and trust.record("honest").may_start:
            begun.append((clock.now, trust.begin("honest")))
            waiting -= 1
        clock.now += 0.1
        for began, start in begun:
            if clock.now - began > 2:
                start.picture()
    assert not waiting
    assert clock.now < 1020


def test_changes_are_given_to_the_writer_once(clock: Clock) -> None:
    trust = Trust(clock=clock)
    trust.begin("a").paid()
    trust.pays("o:1", "a")
    records, places = trust.take_changed()
    assert ([record.key for record in records], places) == (["a"], {"o:1": "a"})
    assert trust.take_changed() == ([], {})
    trust.pays("o:1", "a")
    assert trust.take_changed() == ([], {})
    trust.not_written(records, places)
    assert trust.take_changed() == (records, places)


def test_who_changes_the_address_that_is_paid_stays_who_it_was(clock: Clock) -> None:
    trust = Trust(paid_as={"old:1": "o"}, clock=clock)
    for number in range(5):
        assert trust.payee("t:1", f"t{number}") == "t0"
        trust.fault("t0", "no picture", took_pay=True)
        trust.pays("t:1", f"t{number}")
    assert trust.suspension(trust.payee("t:1", "t5")) is not None
    assert trust.payee("h:1", "t5") == "t5", "it is another one's as well"
    assert trust.payee("old:1", "n") == "o"
    assert trust.payee("old:1", "") == ""


def test_looking_at_strangers_leaves_nothing_behind(clock: Clock) -> None:
    trust = Trust(clock=clock)
    assert trust.record("a") is not trust.record("a")
    assert trust.record("a").json() == {
        "paid_wei": "0",
        "delivered_s": 0.0,
        "starts": 0,
        "empty_starts": 0,
        "proven": False,
        "starts_at_once": 1,
    }
