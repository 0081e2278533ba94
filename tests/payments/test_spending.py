"""Spend limits: held before a call, settled after it, kept over a restart."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.payments.spending import (
    DAY,
    HOUR,
    MINUTE,
    PublisherBudget,
    Spending,
    SpendLimitReached,
    SpendLimits,
    StreamLimits,
)


class Clock:
    def __init__(self) -> None:
        self.now = 10**18

    def __call__(self) -> int:
        return self.now


def test_calls_under_way_count_with_their_maximum_until_they_are_settled() -> None:
    spending = Spending(SpendLimits(hour=100))
    one = spending.hold("one", Fraction(60))
    with pytest.raises(SpendLimitReached, match="last hour"):
        spending.hold("two", Fraction(41))
    one.settle(Fraction(10))
    two = spending.hold("two", Fraction(90))
    two.settle(Fraction(0))
    assert spending.spent(HOUR) == 10


def test_a_streams_limit_is_over_all_its_jobs_and_nobody_elses() -> None:
    spending = Spending(SpendLimits())
    spending.hold("one", Fraction(60), 100).settle(Fraction(60))
    with pytest.raises(SpendLimitReached, match="this stream"):
        spending.hold("one", Fraction(41), 100)
    spending.hold("two", Fraction(100), 100)
    spending.hold("one", Fraction(40), 100)


def test_an_hours_spending_is_free_again_after_it_and_a_days_after_a_day() -> None:
    clock = Clock()
    spending = Spending(SpendLimits(hour=100, day=150), clock=clock)
    spending.hold("one", Fraction(100)).settle(Fraction(100))
    clock.now += HOUR * MINUTE
    with pytest.raises(SpendLimitReached, match="last hour"):
        spending.hold("one", Fraction(1))
    clock.now += MINUTE
    with pytest.raises(SpendLimitReached, match="last day"):
        spending.hold("one", Fraction(51))
    spending.hold("one", Fraction(50)).settle(Fraction(50))
    clock.now += DAY * MINUTE
    assert spending.spent(DAY) == 50
    clock.now += MINUTE
    assert spending.spent(DAY) == 0


def test_what_was_signed_before_a_restart_counts_by_its_age_and_a_wall_clock_set_back_frees_nothing() -> None:
    clock = Clock()
    spending = Spending(SpendLimits(), clock=clock)
    wall = 5 * 10**18
    spending.restore(
        [
            (wall - 30 * MINUTE, Fraction(1), "ann"),
            (wall - 3 * HOUR * MINUTE, Fraction(2), "ann"),
            (wall + 7 * DAY * MINUTE, Fraction(4), ""),
        ],
        wall_ns=wall,
    )
    assert (spending.spent(HOUR), spending.spent(DAY)) == (5, 7)
    assert [spending.spent_by_publisher(ANN, window) for window in (HOUR, DAY)] == [1, 3]


ANN, BOB = PublisherBudget("ann", 100, 150), PublisherBudget("bob", 100, 150)


def test_a_publishers_budget_is_over_all_its_streams_and_nobody_elses() -> None:
    clock = Clock()
    spending = Spending(SpendLimits(), clock=clock)
    spending.hold("one", Fraction(60), None, ANN).settle(Fraction(60))
    with pytest.raises(SpendLimitReached, match="this publisher's last hour"):
        spending.hold("two", Fraction(41), None, ANN)
    under_way = spending.hold("two", Fraction(40), None, ANN)
    with pytest.raises(SpendLimitReached, match="this publisher's last hour"):
        spending.hold("three", Fraction(1), None, ANN)
    with pytest.raises(SpendLimitReached, match="this publisher's last hour"):
        under_way.cover(Fraction(41))
    spending.hold("four", Fraction(100), None, BOB)
    spending.hold("five", Fraction(1000))
    clock.now += (HOUR + 1) * MINUTE
    with pytest.raises(SpendLimitReached, match="this publisher's last day"):
        spending.hold("one", Fraction(51), None, ANN)
    spending.hold("one", Fraction(50), None, ANN)


def test_a_streams_limits_can_be_lowered_and_not_raised() -> None:
    operator = StreamLimits(wei=100, seconds=None)
    assert operator.lowered_by(StreamLimits(wei=200, seconds=60)) == StreamLimits(wei=100, seconds=60)
    assert operator.lowered_by(StreamLimits(wei=50)) == StreamLimits(wei=50)
    publisher = StreamLimits(publisher_hour=9, publisher_day=20, paid_starts=60)
    token = StreamLimits(publisher_hour=10, paid_starts=6)
    assert publisher.lowered_by(token) == replace(publisher, paid_starts=6)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 50), st.integers(0, 60), st.integers(0, 40)),
        max_size=80,
    )
)
def test_no_window_is_ever_over_its_limit(
    calls: list[tuple[str, int, int, int]],
) -> None:
    clock = Clock()
    spending = Spending(SpendLimits(hour=200, day=500), clock=clock)
    paid: list[tuple[int, str, Fraction]] = []
    for stream, most, actual, minutes in calls:
        clock.now += minutes * MINUTE
        try:
            hold = spending.hold(stream, Fraction(most), 150)
            try:
                hold.cover(Fraction(actual), 150)
            except SpendLimitReached:
                hold.settle(Fraction(0))
                continue
        except SpendLimitReached:
            continue
        paid.append((clock.now, stream, Fraction(actual)))
        for limit, window in ((200, HOUR), (500, DAY)):
            assert sum(wei for at, _, wei in paid if at > clock.now - window * MINUTE) <= limit
        assert sum(wei for _, name, wei in paid if name == stream) <= 150
