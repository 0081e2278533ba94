"""Counting against a limit for each second."""

from __future__ import annotations

from gateway.aio.pace import Pace


def test_more_than_the_limit_in_a_second_is_too_much_and_the_next_second_is_new() -> None:
    now = 5.0
    pace = Pace(2, clock=lambda: now)
    assert pace.left == 2
    assert [pace.count(), pace.count(), pace.count()] == [True, True, False]
    assert pace.left == -1
    now = 6.0
    assert pace.left == 2
    assert pace.count(2)
    assert not pace.count()
