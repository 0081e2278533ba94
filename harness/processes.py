"""Programs beside a test: none outlives it, and nothing waits for one without end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from harness.waiting import DEADLINE, within


@asynccontextmanager
async def program(*command: str | Path, **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running program; SIGTERM at the end, SIGKILL where that does not help.

    The kernel kills it when this process ends in whatever way.
    """
    dies_with_us = ("setpriv", "--pdeathsig", "KILL")
    process = await asyncio.create_subprocess_exec(*dies_with_us, *command, **options)
    try:
        yield process
    finally:
        await end(process)


async def end(process: asyncio.subprocess.Process, *, deadline: float = 10.0) -> None:
    """End a program that may have ended already, and read the rest of its output, which closes its pipes."""
    for send in (process.terminate, process.kill):
        if process.returncode is None:
            with suppress(ProcessLookupError):
                send()
        with suppress(AssertionError):
            await within(process.communicate(), deadline=deadline)
            return


async def line(process: asyncio.subprocess.Process, *, deadline: float = DEADLINE) -> bytes:
    """The next line of its output, empty at the end of it."""
    assert process.stdout is not None
    return await within(process.stdout.readline(), deadline=deadline, what="a line of output")
