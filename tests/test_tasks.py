"""A task that fails, leaks or is not looked after is logged by its name, and counted."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from gateway import tasks


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    tasks.failures.clear()
    yield
    tasks.failures.clear()


async def fail(error: Exception) -> None:
    raise error


@pytest.mark.asyncio
async def test_a_task_that_fails_is_named_and_counted_by_its_kind() -> None:
    with capture_logs() as logs:
        for number in range(2):
            await asyncio.wait([tasks.spawn(fail(ValueError("odd")), name=f"viewer {number}")])
    assert tasks.failures == {"viewer": 2}
    assert [(log["event"], log["task"]) for log in logs] == [
        ("task failed", "viewer 0"),
        ("task failed", "viewer 1"),
    ]


@pytest.mark.asyncio
async def test_what_is_expected_and_what_was_cancelled_is_no_failure() -> None:
    with capture_logs() as logs:
        expected = tasks.spawn(fail(KeyError("k")), name="asking", expected=(KeyError,))
        await asyncio.wait([expected])
        await tasks.cancel(tasks.spawn(asyncio.Event().wait(), name="waiting"))
    assert (tasks.failures, logs) == ({}, [])


@pytest.mark.asyncio
async def test_an_exception_that_nobody_retrieved_is_named_and_counted() -> None:
    loop = asyncio.get_running_loop()
    tasks.watch(loop)
    with capture_logs() as logs:
        forgotten = loop.create_task(fail(ValueError("odd")), name="forgotten 1")
        await asyncio.wait([forgotten])
        del forgotten
        gc.collect()
    assert tasks.failures == {"forgotten": 1}
    assert (logs[0]["event"], logs[0]["task"]) == ("task failed unnoticed", "forgotten 1")
    assert "never retrieved" in logs[0]["detail"]


@pytest.mark.asyncio
async def test_a_task_that_nobody_holds_any_more_is_named_and_counted() -> None:
    loop = asyncio.get_running_loop()
    tasks.watch(loop)
    with capture_logs() as logs:

        async def wait_for_ever() -> None:
            await asyncio.Future()

        loop.create_task(wait_for_ever(), name="leaked 1")  # noqa: RUF006
        await asyncio.sleep(0)
        gc.collect()
    assert tasks.failures == {"leaked": 1}
    assert logs[0]["task"] == "leaked 1"
    assert "destroyed" in logs[0]["detail"]
