"""The times of a payment session."""

from __future__ import annotations

from gateway.payments.schedule import LONGEST_BACKOFF, SHORTEST_INTERVAL, Schedule
from gateway.payments.timebase import NANOSECONDS as S


def test_the_interval_is_at_most_half_of_what_the_first_payment_bought() -> None:
    for bought, interval in ((60 * S, 5 * S), (8 * S, 4 * S), (1, SHORTEST_INTERVAL)):
        schedule = Schedule(5 * S)
        schedule.start(0, bought)
        assert schedule.interval == interval


def test_missed_ticks_are_one_payment() -> None:
    schedule = Schedule(5 * S)
    schedule.start(3 * S, 60 * S)
    for billed_until, due in ((3 * S, 8 * S), (8 * S, 13 * S), (30 * S, 33 * S)):
        schedule.advance(billed_until)
        assert schedule.due == due


def test_each_failure_doubles_the_wait_and_a_success_ends_it() -> None:
    schedule = Schedule(5 * S, first_backoff=S)
    waits = []
    for _ in range(4):
        schedule.back_off(100)
        assert schedule.retry_at is not None
        waits.append(schedule.retry_at - 100)
    assert waits == [S, 2 * S, 4 * S, LONGEST_BACKOFF]
    schedule.succeed()
    assert (schedule.failures, schedule.retry_at) == (0, None)
