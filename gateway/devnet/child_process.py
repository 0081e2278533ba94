"""Child processes that report when they are ready, end with their parent, and stop in bounded time.

A child prints one JSON object on one line when it is ready, or is found to be in another way; stderr is its
parent's. When the parent dies, the kernel kills the child (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from gateway.aio.tasks import cancel, spawn

log = structlog.get_logger("devnet")

PARENT_VARIABLE = "LIVEPEER_PARENT_PID"
"""In a child's environment: the process id of its parent."""
LONGEST_RESTART_DELAY = 2.0
SHORTEST_RESTART_DELAY = 0.1
READ_AT_ONCE = 65_536
_PR_SET_PDEATHSIG = 1

Ready = dict[str, Any]
WhenReady = Callable[[asyncio.subprocess.Process], Awaitable[Ready | None]]
"""Waits until a process is ready, and gives what is known of it then; None where it ended before."""


@dataclass(frozen=True, slots=True)
class ChildTiming:
    """Seconds that a child may take until it is ready, and to end after SIGTERM before SIGKILL follows."""

    ready: float = 30.0
    stop: float = 3.0


class ChildFailed(OSError):
    """A child did not start; the message says which one and how it ended."""


def die_with_parent(environ: Mapping[str, str] = os.environ) -> None:
    """Have the kernel kill this process when its parent ends, where it was started as a `Child`.

    To be called first. The kernel watches the thread that started the child: it must be the parent's main
    thread.
    """
    parent = environ.get(PARENT_VARIABLE)
    if not parent:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        # the parent died before the kernel watched it
        os._exit(1)


async def printed_json(process: asyncio.subprocess.Process) -> Ready | None:
    """The JSON object that a process prints when it is ready. Raises ValueError for anything else."""
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        return None
    try:
        ready = json.loads(line)
    except ValueError:
        ready = None
    if not isinstance(ready, dict):
        raise ValueError("did not print a JSON object when ready")
    return ready


class Child:
    """One child process; with `restart`, it is started again after it died.

    `command` gives its arguments from the ready line of the former process (None at first), so that a
    restarted process can take the same ports. `environment` is given to it beside this process's, without
    the flags in that. Its stderr goes on to `log_file`, where one is named.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[Ready | None], Sequence[str]],
        *,
        restart: bool = False,
        timing: ChildTiming = ChildTiming(),
        when_ready: WhenReady = printed_json,
        environment: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        log_file: Path | None = None,
    ) -> None:
        self.name = name
        self.restarts = 0
        self._command = command
        self._restart = restart
        self._timing = timing
        self._when_ready = when_ready
        self._environment = dict(environment or {})
        self._stop_signal = stop_signal
        self._log_file = log_file
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
        """The ready line of the newest process."""
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
        """Send the signal to stop, and SIGKILL where that does not end it in time. Idempotent."""
        keeper, self._keeper = self._keeper, None
        await cancel(keeper)
        await self._end_process()

    def terminate(self) -> None:
        """Have it end, and wait for nothing."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(self._stop_signal)

    async def _launch(self) -> Ready:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LP_")}
        with ExitStack() as stack:
            log_file = None if self._log_file is None else stack.enter_context(self._log_file.open("ab"))
            self._process = process = await asyncio.create_subprocess_exec(
                *self._command(self._ready),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log_file,
                env={**environment, **self._environment, PARENT_VARIABLE: str(os.getpid())},
                # a terminal's SIGINT goes to the parent alone, which stops its children in order
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(self._timing.ready):
                ready = await self._when_ready(process)
        except TimeoutError:
            raise ChildFailed(f"{self.name} was not ready within {self._timing.ready:g} s") from None
        except ValueError as error:
            raise ChildFailed(f"{self.name} {error}") from None
        if ready is None:
            raise ChildFailed(f"{self.name} ended with status {await process.wait()} before it was ready")
        return ready

    async def _keep(self) -> None:
        """Watch the process and restart it when it died; the delay doubles while it dies young."""
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
        self.terminate()
        try:
            async with asyncio.timeout(self._timing.stop):
                await self._wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await self._wait()
