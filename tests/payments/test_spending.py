"""Spend limits: held before a call, settled after it, kept over a restart."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.payments.spending import (
    DAY,
    HOUR,
    MINUTE,
    Hold,
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
    with pytest.raises(SpendLimitReached, match="this stream") as refused:
        spending.hold("one", Fraction(41), 100)
    assert not any(letter.isdigit() for letter in str(refused.value)), "publishers and viewers read it"
    assert all(amount in refused.value.amounts for amount in ("60 wei", "41", "100"))
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


def test_a_payment_that_another_stream_uses_counts_for_that_ones_publisher() -> None:
    spending = Spending(SpendLimits(hour=100))
    kept = spending.hold("one", Fraction(60), 60, ANN)
    with pytest.raises(SpendLimitReached, match="this stream"):
        spending.move(kept, "two", 59, BOB)
    assert [spending.spent_by_publisher(one, HOUR) for one in (ANN, BOB)] == [60, 0]
    moved = spending.move(kept, "two", 60, BOB)
    assert [spending.spent_by_publisher(one, HOUR) for one in (ANN, BOB)] == [0, 60]
    assert [spending.spent_by(stream) for stream in ("one", "two")] == [0, 60]
    moved = spending.move(moved, "two", 60, BOB)
    assert [spending.spent_by(stream) for stream in ("one", "two")] == [0, 60]
    spending.hold("one", Fraction(40), 60, ANN)


@given(
    st.lists(
        st.tuples(st.sampled_from("pmr"), st.integers(0, 2), st.integers(1, 50), st.integers(0, 90)),
        max_size=60,
    )
)
def test_every_window_counts_a_payment_for_the_publisher_that_used_it_last(
    steps: list[tuple[str, int, int, int]],
) -> None:
    """Payments, moves and restarts, held against a list of who used what."""
    clock = Clock()
    budgets = [PublisherBudget(name, 300, 500) for name in ("a", "b", "c")]
    spending, holds, former = Spending(SpendLimits(), clock=clock), list[Hold](), list[Hold]()
    for step, index, wei, minutes in steps:
        clock.now += minutes * MINUTE
        budget = budgets[index]
        with suppress(SpendLimitReached):
            if step == "p":
                holds.append(spending.hold(budget.publisher, Fraction(wei), 400, budget))
            elif step == "m" and holds:
                holds[-1] = spending.move(holds[-1], budget.publisher, 400, budget)
        if step == "r":
            spending, holds, former = Spending(SpendLimits(), clock=clock), [], former + holds
            signed = [(one.minute * MINUTE, one.wei, one.budget.publisher) for one in former]
            spending.restore(signed, wall_ns=clock.now)
        for one in budgets:
            for window in (HOUR, DAY):
                since = clock.now // MINUTE - window
                used = [h.wei for h in former + holds if h.budget == one and h.minute >= since]
                assert spending.spent_by_publisher(one, window) == sum(used, Fraction(0))
        assert all(spending.spent_by_publisher(one, HOUR) <= 300 for one in budgets)


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
