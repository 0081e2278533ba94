from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.telemetry.lag import INTERVAL, OVERLOADED, WINDOW, LagWindow, LoopWatch
from harness.waiting import eventually


def busy_signing() -> None:
    time.sleep(0.4)  # what blocks the loop


async def blocked_by(block: Callable[[], None]) -> str:
    """Block the loop; gives what the log names as the cause."""
    with capture_logs() as logs:
        async with LoopWatch() as watch:
            block()
            await eventually(lambda: watch.blocked == 1, what="the count")
    (entry,) = [entry for entry in logs if entry["event"] == "loop blocked"]
    return str(entry["by"])


def module(name: str, code: str, **names: object) -> Any:
    """The function `run` of a module that an image has below /srv/gateway, as all that is installed there."""
    space: dict[str, object] = {"__name__": name, **names}
    exec(compile(code, f"/srv/gateway/.venv/lib/{name.replace('.', '/')}.py", "exec"), space)
    return space["run"]


@pytest.mark.asyncio
async def test_what_blocks_the_loop_is_named_and_counted() -> None:
    threads = threading.active_count()
    assert (await blocked_by(busy_signing)).endswith("busy_signing")
    assert threading.active_count() <= threads + 1, "asyncio's own thread for joining may stay"


@pytest.mark.asyncio
async def test_our_own_function_is_named_before_the_library_that_it_calls_wherever_both_lie() -> None:
    library = module("some.library", "def run(): busy()", busy=busy_signing)
    ours = module("gateway.payments.signing", "def run(): library()", library=library)
    assert (await blocked_by(ours)).startswith("gateway.payments.signing:1 run in ")


def test_a_library_is_named_alone_where_our_code_only_started_the_loop() -> None:
    library = module("some.library", "def run(): sleep(0.4)", sleep=time.sleep)
    start = "def run(): return asyncio.run(blocked_by(library))"
    ours = module("gateway.aio.event_loop", start, asyncio=asyncio, blocked_by=blocked_by, library=library)
    assert ours() == "some.library:1 run"


@pytest.mark.asyncio
async def test_a_function_of_ours_that_is_called_run_is_no_idle_loop() -> None:
    ours = module("gateway.network.job", "def run():\n    while now() < end: pass", now=time.monotonic)
    ours.__globals__["end"] = time.monotonic() + 0.4
    assert await blocked_by(ours) == "gateway.network.job:2 run"


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
