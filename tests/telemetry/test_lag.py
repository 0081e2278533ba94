from __future__ import annotations

import threading
import time

import pytest
from structlog.testing import capture_logs

from gateway.telemetry.lag import INTERVAL, OVERLOADED, WINDOW, LagWindow, LoopWatch
from harness.waiting import eventually


def busy_signing() -> None:
    time.sleep(0.4)  # what blocks the loop


@pytest.mark.asyncio
async def test_what_blocks_the_loop_is_named_and_counted() -> None:
    threads = threading.active_count()
    with capture_logs() as logs:
        async with LoopWatch() as watch:
            await eventually(lambda: watch.window.median >= 0 and watch._turn_at, what="a first turn")
            busy_signing()
            await eventually(lambda: watch.blocked == 1, what="the count")
    blocked = [entry for entry in logs if entry["event"] == "loop blocked"]
    assert len(blocked) == 1
    assert "busy_signing" in blocked[0]["by"]
    assert threading.active_count() <= threads + 1, "asyncio's own thread for joining may stay"


def test_lag_that_stays_above_the_limit_is_overload() -> None:
    window = LagWindow()
    for _ in range(int(WINDOW / INTERVAL) - 1):
        window.add(OVERLOADED * 2)
    assert not window.overloaded, "not before it lasted"
    window.add(OVERLOADED * 2)
    assert window.overloaded


def test_one_long_turn_is_no_overload() -> None:
    window = LagWindow()
    for _ in range(100):
        window.add(0.001)
    window.add(3.0)
    assert not window.overloaded
    assert window.median == 0.001
