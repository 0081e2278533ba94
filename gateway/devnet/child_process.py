"""Child processes that say when they are ready, never outlive their parent, and are bounded in stopping.

A child prints one JSON object on one line when it can serve; stderr is its parent's. It dies with its
parent however that dies: the kernel kills it (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from gateway.aio.tasks import cancel, spawn

log = structlog.get_logger("devnet")

PARENT_VARIABLE = "LIVEPEER_PARENT_PID"
"""In a child's environment: whom it must not outlive."""
LONGEST_RESTART_DELAY = 2.0
SHORTEST_RESTART_DELAY = 0.1
READ_AT_ONCE = 65_536
_PR_SET_PDEATHSIG = 1

Ready = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChildTiming:
    """Seconds that a child may take until it is ready, and to end after SIGTERM before SIGKILL follows."""

    ready: float = 30.0
    stop: float = 3.0


class ChildFailed(OSError):
    """A child did not come up; the message says which one and how it ended."""


def die_with_parent(environ: Mapping[str, str] = os.environ) -> None:
    """Have this process killed when the one that started it as a `Child` ends; otherwise do nothing.

    To be called first thing. The kernel watches the parent's thread that started the child, which must
    therefore be one that lives as long as the process: the main one.
    """
    parent = environ.get(PARENT_VARIABLE)
    if not parent:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        # it died before it could be watched
        os._exit(1)


class Child:
    """One child process, started again when it dies where `restart` says so.

    `command` gives its arguments, from what it said when it was ready the time before (None at first): so
    that a process started again can take the same ports.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[Ready | None], Sequence[str]],
        *,
        restart: bool = False,
        timing: ChildTiming = ChildTiming(),
    ) -> None:
        self.name = name
        self.restarts = 0
        self._command = command
        self._restart = restart
        self._timing = timing
        self._ready: Ready | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def launched(self) -> bool:
        """Whether a process was ever made; it may not be ready yet."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """The process id of the newest process."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process.pid

    @property
    def ready(self) -> Ready:
        """What it said when it was ready last."""
        if self._ready is None:
            raise RuntimeError(f"{self.name} was never ready")
        return self._ready

    async def start(self) -> Ready:
        """Start it and wait until it is ready. Raises ChildFailed."""
        try:
            self._ready = await self._launch()
        except BaseException:
            await self._end_process()
            raise
        self._keeper = spawn(self._keep(), name=f"child {self.name}")
        return self._ready

    async def stop(self) -> None:
        """Send SIGTERM, and SIGKILL where that does not end it in time. Idempotent."""
        keeper, self._keeper = self._keeper, None
        await cancel(keeper)
        await self._end_process()

    async def _launch(self) -> Ready:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LP_")}
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command(self._ready),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            env={**environment, PARENT_VARIABLE: str(os.getpid())},
            # a terminal's SIGINT is for the parent, which stops its children in order
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(self._timing.ready):
                line = await process.stdout.readline()
        except TimeoutError:
            raise ChildFailed(f"{self.name} was not ready within {self._timing.ready:g} s") from None
        if not line:
            raise ChildFailed(f"{self.name} ended with status {await process.wait()} before it was ready")
        try:
            ready = json.loads(line)
        except ValueError:
            ready = None
        if not isinstance(ready, dict):
            raise ChildFailed(f"{self.name} did not say in JSON where it is")
        return ready

    async def _keep(self) -> None:
        """Watch the process; start it again after its death, more slowly the shorter it lived."""
        delay = SHORTEST_RESTART_DELAY
        while True:
            began = time.monotonic()
            status = await self._wait()
            log.warning("devnet process died", process=self.name, pid=self.pid, status=status)
            if not self._restart:
                return
            lived = time.monotonic() - began
            delay = SHORTEST_RESTART_DELAY if lived > LONGEST_RESTART_DELAY else delay * 2
            await asyncio.sleep(min(delay, LONGEST_RESTART_DELAY))
            try:
                self._ready = await self._launch()
            except OSError as error:
                log.warning("devnet process not restarted", process=self.name, error=str(error))
                await self._end_process()
                continue
            self.restarts += 1
            log.info("devnet process restarted", process=self.name, pid=self.pid)

    async def _wait(self) -> int:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        while await process.stdout.read(READ_AT_ONCE):
            pass
        return await process.wait()

    async def _end_process(self) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
        try:
            async with asyncio.timeout(self._timing.stop):
                await self._wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await self._wait()
