"""A command of the operator's for each file that is finished: an upload, as a rule. There is no shell."""

from __future__ import annotations

import asyncio
import os
import shlex
from contextlib import suppress
from pathlib import Path

import structlog

from gateway.aio.tasks import cancel, spawn

log = structlog.get_logger("record")

AT_ONCE = 2
MAX_WAITING = 10_000
TIMEOUT = 3_600.0
"""Seconds that a command may run."""
LAST = 30.0
"""Seconds that commands may go on when the gateway stops."""
MAX_SAID = 2_000


def parse_command(text: str) -> tuple[str, ...]:
    """The words of a command, quoted as for a shell, with {file} among them. Raises ValueError."""
    words = tuple(shlex.split(text))
    if not words or not any("{file}" in word for word in words[1:]):
        raise ValueError(text)
    return words


class DoneCommands:
    """Runs the command for one file after the other, `AT_ONCE` at a time."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.failed = 0
        """Commands that did not end with status 0."""
        self._words = words
        self._queue: asyncio.Queue[Path] = asyncio.Queue(MAX_WAITING)
        self._workers = [spawn(self._work(), name=f"record-done {number}") for number in range(AT_ONCE)]

    def add(self, file: Path) -> None:
        """Run the command for a file when it is its turn."""
        try:
            self._queue.put_nowait(file)
        except asyncio.QueueFull:
            self.failed += 1
            log.error("no command for this file: too many wait", file=str(file))

    async def close(self) -> None:
        """Let those go on that wait, for LAST seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._queue.join(), LAST)
        await cancel(*self._workers)

    async def _work(self) -> None:
        while True:
            file = await self._queue.get()
            try:
                await self._run(file)
            finally:
                self._queue.task_done()

    async def _run(self, file: Path) -> None:
        words = [word.replace("{file}", str(file)) for word in self._words]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LP_")}
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
            )
        except OSError as error:
            self._note(file, f"{words[0]} does not start: {error.strerror}")
            return
        said = b""
        try:
            assert process.stderr is not None
            async with asyncio.timeout(TIMEOUT):
                while data := await process.stderr.read(65_536):
                    said = (said + data)[-MAX_SAID:]
                await process.wait()
        except TimeoutError:
            said = f"it did not end within {TIMEOUT:.0f} s".encode()
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode != 0:
            last = said.decode(errors="replace").strip().splitlines()[-1:]
            self._note(file, last[0] if last else f"status {process.returncode}")

    def _note(self, file: Path, detail: str) -> None:
        self.failed += 1
        log.error("command for a recording failed", file=str(file), detail=detail[:300])
