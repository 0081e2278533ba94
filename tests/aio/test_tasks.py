"""A task that fails, leaks or is not looked after is logged by its name, and counted."""

from __future__ import annotations

import asyncio
import gc
import traceback
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from gateway.aio import tasks
from harness.serving import serving
from harness.waiting import eventually


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


@pytest.mark.asyncio
async def test_tasks_of_libraries_are_counted_together() -> None:
    loop = asyncio.get_running_loop()
    tasks.watch(loop)
    with capture_logs():
        for _ in range(2):
            forgotten = loop.create_task(fail(ValueError("odd")))
            await asyncio.wait([forgotten])
            del forgotten
        gc.collect()
    assert tasks.failures == {tasks.UNNAMED: 2}


@pytest.mark.asyncio
async def test_a_body_that_ends_when_its_connection_is_gone_fails_its_request_alone() -> None:
    loop = asyncio.get_running_loop()
    tasks.watch(loop)
    aborted = asyncio.Event()

    async def body(later: int) -> AsyncIterator[bytes]:
        yield b"x"
        await aborted.wait()
        for _ in range(later):
            await asyncio.sleep(0)

    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        aborted.set()
        return web.Response()

    with capture_logs() as logs:
        async with serving(web.post("/", hang_up)) as url, aiohttp.ClientSession() as http:
            for later in range(12):  # one of them ends between the loss and its news
                aborted.clear()
                with pytest.raises(aiohttp.ClientError):
                    await http.post(url, data=body(later))
                gc.collect()
    assert [log for log in logs if log["log_level"] == "error"] == []
    assert tasks.failures == {}


class Buffer:
    """Something that ought not to stay in memory."""


async def fails(words: str = "first") -> None:
    try:
        raise KeyError("why")
    except KeyError:
        raise ValueError(words)  # noqa: B904 - what it comes from is to be seen all the same


async def waits(buffer: Buffer) -> None:
    del buffer
    await asyncio.Event().wait()


async def fails_deep_within(buffer: Buffer) -> None:
    async with tasks.TaskGroup() as group:
        group.create_task(waits(buffer))
        group.create_task(fails())
        await waits(buffer)


async def fails_in_the_body(buffer: Buffer) -> None:
    async with tasks.TaskGroup() as group:
        group.create_task(waits(buffer))
        await asyncio.sleep(0)
        raise ValueError("first")


async def fails_twice(buffer: Buffer) -> None:
    async with tasks.TaskGroup() as group:
        group.create_task(fails())
        group.create_task(fails("second"))
        group.create_task(waits(buffer))


@pytest.mark.asyncio
@pytest.mark.parametrize("run", [fails_deep_within, fails_in_the_body, fails_twice])
async def test_a_group_raises_its_first_error_alone_and_nothing_stays_in_memory(
    run: Callable[[Buffer], Awaitable[None]], without_collector: None
) -> None:
    buffer = Buffer()
    gone = weakref.ref(buffer)
    with pytest.raises(ValueError, match="first") as failure:
        await run(buffer)
    told = "".join(traceback.format_exception(failure.value))
    assert ("why" in told) is (run is not fails_in_the_body)
    assert "Cancelled" not in told
    del buffer, failure
    assert gone() is None


@pytest.mark.asyncio
@pytest.mark.parametrize("turns", [0, 1, 2, 5])
async def test_a_group_that_is_cancelled_leaves_nothing_in_memory(
    turns: int, without_collector: None
) -> None:
    async def run(buffer: Buffer) -> None:
        async with tasks.TaskGroup() as outer:
            outer.create_task(waits(buffer))
            async with tasks.TaskGroup() as inner:
                inner.create_task(waits(buffer))
                await asyncio.sleep(0)

    buffer = Buffer()
    gone = weakref.ref(buffer)
    task = asyncio.get_running_loop().create_task(run(buffer))
    del buffer
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await eventually(lambda: gone() is None, every=0, what="the loop to let go of the task")
