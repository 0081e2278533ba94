"""A program beside a test ends with the test's process, however that ends."""

from __future__ import annotations

import asyncio
import signal
import sys

import psutil
import pytest

from harness.processes import end, line, program
from harness.waiting import eventually

PARENT = """
import asyncio
from harness.processes import program

async def main():
    async with program("sh", "-c", "echo up; exec sleep 1000", stdout=asyncio.subprocess.PIPE) as process:
        await process.stdout.readline()
        print(process.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.asyncio
async def test_it_ends_with_a_process_that_is_killed() -> None:
    async with program(sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE) as parent:
        child = psutil.Process(int(await line(parent)))
        assert child.is_running()
        parent.send_signal(signal.SIGKILL)
        await eventually(lambda: has_ended(child))


@pytest.mark.asyncio
async def test_one_that_ignores_sigterm_is_killed() -> None:
    stubborn = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    async with program("sh", "-c", stubborn, stdout=asyncio.subprocess.PIPE) as process:
        await line(process)
        await end(process, deadline=0.3)
        assert process.returncode == -signal.SIGKILL
