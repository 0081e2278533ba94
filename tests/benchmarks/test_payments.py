"""The payments benchmark runs, and calls to the signer stay within their limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import payments


@pytest.mark.asyncio
async def test_a_few_sessions_are_held_and_a_slow_signer_has_no_more_calls_than_it_may(
    tmp_path: Path,
) -> None:
    plan = payments.Plan(steps=(5,), seconds=2.0, slow_signer=0.5, signing_calls=2)
    step, _, slow = [row async for row in payments.measure(tmp_path, plan)]
    assert step["sessions"] == 5
    assert step["payments_per_s"] > 2
    assert step["cpu_percent_per_session"] > 0
    assert slow["signing_calls_in_flight"] == 2
