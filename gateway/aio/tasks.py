"""How tasks are started: in a TaskGroup, or by `spawn`."""

from __future__ import annotations

import asyncio
import re
import socket
from collections import Counter
from collections.abc import Coroutine
from functools import partial
from types import TracebackType
from typing import Any

import structlog
from typing_extensions import override

log = structlog.get_logger("tasks")

UNNAMED = "unnamed"
"""All of ours have names."""
_running: set[asyncio.Task[Any]] = set()
failures: Counter[str] = Counter()
"""How many tasks of each name ended with an exception since the process started."""


class TaskGroup(asyncio.TaskGroup):
    """asyncio's, but only the first error is raised: the others follow from it.

    Its end leaves no cycle of references, as asyncio's does in Python 3.11: the error refers to its frames,
    and one of them to the error. All that they hold (buffers, TLS, SRTP) would stay until the garbage
    collector runs.
    """

    @override
    async def __aexit__(
        self, kind: type[BaseException] | None, body: BaseException | None, trace: TracebackType | None
    ) -> None:
        error: BaseException | None = None
        try:
            await super().__aexit__(kind, body, trace)
        except BaseException as raised:
            raised.__traceback__ = trace if raised is body else None
            error = _first(raised)
        vars(self)["_parent_task"] = None  # it holds the error that it was cancelled with
        if error is None:
            return
        context = error.__context__
        try:
            raise error
        finally:
            error.__context__ = context  # and not that the body was cancelled for it
            del self, body, error, trace, context


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def spawn(
    coroutine: Coroutine[Any, Any, Any], *, name: str, expected: tuple[type[Exception], ...] = ()
) -> asyncio.Task[Any]:
    """Start `coroutine` as a task that is kept until its end and whose exception is logged and counted.

    Exceptions of the `expected` kinds are left to whoever waits for the task.
    The part of `name` before the first space is the kind of task: what `/debug/state` counts by.
    """
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    _running.add(task)
    task.add_done_callback(partial(_ended, expected))
    return task


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """Have `loop` log and count what nobody else does: leaked tasks, exceptions that nobody retrieved."""
    loop.set_exception_handler(_unnoticed)


def _unnoticed(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    task = context.get("task") or context.get("future")
    error = context.get("exception")
    if isinstance(error, socket.gaierror) and not isinstance(task, asyncio.Task):
        return  # uvloop's look-up of a name for a connection that nobody waits for any more
    if isinstance(task, asyncio.Task):
        if isinstance(error, ConnectionResetError) and kind(task) == UNNAMED:
            return  # aiohttp's writer of a request's body: the request fails, and says so
        what, name = kind(task), task.get_name()
    else:
        what, name = "loop", repr(context.get("handle", task))
    failures[what] += 1
    log.error(
        "task failed unnoticed",
        task=name,
        detail=context.get("message", ""),
        exc_info=error,
    )


def _ended(expected: tuple[type[Exception], ...], task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if task.cancelled():
        return
    error = task.exception()
    if error is not None and not isinstance(error, expected):
        failures[kind(task)] += 1
        log.error("task failed", task=task.get_name(), exc_info=error)


async def cancel(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel the tasks and wait until all have ended; their results and exceptions are dropped."""
    present = [task for task in tasks if task is not None]
    for task in present:
        task.cancel()
    await asyncio.gather(*present, return_exceptions=True)


def kind(task: asyncio.Task[Any]) -> str:
    """The name a task is counted by: `viewer` for the task `viewer 81f3`, UNNAMED for a library's."""
    name = task.get_name().partition(" ")[0]
    return UNNAMED if re.fullmatch(r"Task-\d+", name) else name
