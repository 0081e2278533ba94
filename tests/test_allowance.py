from __future__ import annotations

from gateway.allowance import Allowance


def test_so_many_at_once_and_so_many_more_each_second() -> None:
    now = 0.0
    allowance = Allowance(5, 2, lambda: now)
    assert [allowance.take() for _ in range(7)] == [True] * 5 + [False] * 2
    now = 1.0
    assert [allowance.take() for _ in range(3)] == [True, True, False]
    now = 100.0
    assert [allowance.take() for _ in range(6)] == [True] * 5 + [False]
