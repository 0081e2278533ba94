"""The payments benchmark runs, calls to the signer stay within their limit, and its rhythm costs little."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import payments, rhythms


@pytest.mark.asyncio
async def test_a_few_sessions_are_held_and_a_slow_signer_has_no_more_calls_than_it_may(
    tmp_path: Path,
) -> None:
    plan = payments.Plan(steps=(5,), seconds=2.0, slow_signer=0.5, signing_calls=2)
    *by_rhythm, step, _, slow = [row async for row in payments.measure(tmp_path, plan)]
    assert by_rhythm == list(rhythms.measure())
    assert step["sessions"] == 5
    assert step["payments_per_s"] > 2
    assert step["cpu_percent_per_session"] > 0
    assert slow["signing_calls_in_flight"] == 2


@pytest.mark.parametrize("seed", range(3))
def test_ten_minutes_of_a_live_runner_cost_at_most_two_percent_more_than_the_exact_fee(seed: int) -> None:
    ours, sdk, plain, exact = (row["over_percent"] for row in rhythms.measure(seed))
    assert exact < ours <= 2 < 15 < plain < sdk
