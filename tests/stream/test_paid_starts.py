from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.payments.customer import Customer
from gateway.stream.paid_starts import (
    MAX_PUBLISHERS,
    WINDOW,
    NobodyShows,
    PaidStarts,
    RefusedBySigner,
    TooManyStarts,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_start_is_free_again_a_minute_after_the_oldest_that_counts() -> None:
    clock = Clock()
    starts = PaidStarts(clock)
    for request_id in "123":
        starts.count("ann", request_id, 3)
        clock.now += 10
    with pytest.raises(TooManyStarts, match="3 paid streams") as refused:
        starts.count("ann", "4", 3)
    assert refused.value.retry_after == 30
    with pytest.raises(TooManyStarts) as refused:
        starts.check("ann", 2)  # its limit was lowered: two of the three have to pass
    assert refused.value.retry_after == 40
    starts.count("bob", "5", 3)
    clock.now += 30
    starts.count("ann", "6", 3)
    clock.now += WINDOW
    starts.check("ann", 1)


def test_whom_the_signer_refuses_is_held_back_longer_each_time_until_it_is_another_customer() -> None:
    clock, ann = Clock(), Customer("ann", {"Authorization": "Bearer 1"})
    starts, waits = PaidStarts(clock), []
    for _ in range(8):
        starts.refused("token 1", ann, "the signer refused customer 'ann': no budget")
        with pytest.raises(RefusedBySigner, match="no budget") as refused:
            starts.check_accepted("token 1", ann)
        waits.append(refused.value.retry_after)
        starts.check_accepted("token 2", ann)
        starts.check_accepted("token 1", Customer("ann", {"Authorization": "Bearer 2"}))
        clock.now += refused.value.retry_after
        starts.check_accepted("token 1", ann)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]
    starts.accepted("token 1", ann)
    starts.refused("token 1", ann, "no budget")
    with pytest.raises(RefusedBySigner) as refused:
        starts.check_accepted("token 1", ann)
    assert refused.value.retry_after == 5
    for number in range(MAX_PUBLISHERS):
        starts.refused(f"token n{number}", ann, "no budget")
    starts.check_accepted("token 1", ann)


events = st.lists(
    st.tuples(
        st.sampled_from(["token 1", "token 2"]),
        st.builds(
            Customer,
            st.sampled_from(["ann", "bob"]),
            st.sampled_from([{}, {"Authorization": "Bearer 1"}]),
            st.sampled_from([None, Fraction(2)]),
        ),
        st.booleans(),
    )
)


@given(events)
def test_what_the_signer_does_for_one_customer_holds_no_other_back_and_frees_none(
    events: list[tuple[str, Customer, bool]],
) -> None:
    starts, in_a_row = PaidStarts(Clock()), list[tuple[str, Customer]]()
    for publisher, customer, paid in events:
        if paid:
            starts.accepted(publisher, customer)
            in_a_row = [one for one in in_a_row if one != (publisher, customer)]
        else:
            starts.refused(publisher, customer, "no budget")
            in_a_row.append((publisher, customer))
        for one in {event[:2] for event in events}:
            if one not in in_a_row:
                starts.check_accepted(*one)
                continue
            with pytest.raises(RefusedBySigner) as refused:
                starts.check_accepted(*one)
            assert refused.value.retry_after == min(5 * 2 ** (in_a_row.count(one) - 1), 300)


def test_a_start_that_cost_nothing_is_given_back_and_no_other() -> None:
    starts = PaidStarts(Clock())
    starts.count("ann", "1", 1)
    for publisher, request_id in (("ann", "2"), ("bob", "1")):
        starts.give_back(publisher, request_id)
        with pytest.raises(TooManyStarts):
            starts.check("ann", 1)
    starts.give_back("ann", "1")
    starts.count("ann", "3", 1)


def test_without_a_limit_nothing_is_counted() -> None:
    starts = PaidStarts(Clock())
    for number in range(100):
        starts.count("ann", str(number), None)
    starts.count("ann", "100", 1)


def test_of_many_publishers_those_that_started_last_are_kept() -> None:
    starts = PaidStarts(Clock())
    for number in range(MAX_PUBLISHERS + 1):
        starts.count(str(number), "1", 1)
    starts.count("0", "2", 1)
    with pytest.raises(TooManyStarts):
        starts.check(str(MAX_PUBLISHERS), 1)


def test_a_publisher_whose_stream_nobody_can_show_waits_longer_each_time() -> None:
    clock = Clock()
    starts, waits = PaidStarts(clock), []
    for _ in range(3):
        starts.unshown("ann", "no picture from a, b")
        with pytest.raises(NobodyShows, match="no picture from a, b") as refused:
            starts.check_shown("ann")
        waits.append(refused.value.retry_after)
        starts.check_shown("bob")
        clock.now += refused.value.retry_after
        starts.check_shown("ann")
    assert waits == [30, 60, 120]
    starts.unshown("ann", "again")
    starts.shown("ann")
    starts.check_shown("ann")


def test_of_many_publishers_that_nobody_can_show_the_last_are_kept() -> None:
    starts = PaidStarts(Clock())
    for number in range(MAX_PUBLISHERS + 1):
        starts.unshown(str(number), "why")
    starts.check_shown("0")
    with pytest.raises(NobodyShows):
        starts.check_shown(str(MAX_PUBLISHERS))


def test_starts_on_other_nodes_count_once() -> None:
    clock = Clock()
    starts = PaidStarts(clock)
    starts.count("ann", "here", 3, {"there": 50.0, "long ago": WINDOW + 1})
    clock.now += 5
    everywhere = {"there": 55.0, "here": 5.0}
    starts.check("ann", 3, everywhere)
    with pytest.raises(TooManyStarts) as refused:
        starts.count("ann", "another", 2, everywhere)
    assert refused.value.retry_after == 5
    starts.count("ann", "another", 2, {"here": 5.0})  # what was there cost nothing
