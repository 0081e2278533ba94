"""Appends events to a file, one JSON object a line, in a thread of the pool."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path

import structlog

from gateway.aio.tasks import cancel, spawn
from gateway.private_files import make_file, make_folder
from gateway.telemetry.events import Event, EventHub

log = structlog.get_logger("events")

MAX_WAITING = 10_000
"""Events in memory while the file cannot be written: later ones are dropped."""
RETRY = 1.0
LAST_WRITE_TIMEOUT = 5.0
"""Seconds for what is left to write when the gateway stops."""
FILE = "file"


class EventFile:
    """A sink of `hub`. The file is opened for each write: it may be moved away at any time."""

    def __init__(self, path: Path, hub: EventHub) -> None:
        self._path = path
        self._hub = hub
        self._waiting: deque[str] = deque()
        self._came = asyncio.Event()
        self._closing = False
        self._writing = spawn(self._run(), name="events file")

    def take(self, event: Event) -> None:
        """Queue an event; it is dropped where too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            self._hub.dropped[FILE] += 1
            return
        self._waiting.append(event.text)
        self._came.set()

    async def close(self) -> None:
        """Write what is left."""
        self._closing = True
        self._came.set()
        try:
            async with asyncio.timeout(LAST_WRITE_TIMEOUT):
                await asyncio.shield(self._writing)
        except TimeoutError:
            await cancel(self._writing)

    async def _run(self) -> None:
        while not self._closing or self._waiting:
            if not self._waiting:
                await self._came.wait()
                self._came.clear()
                continue
            lines = list(self._waiting)
            try:
                await asyncio.to_thread(self._append, lines)
            except OSError as error:
                log.error("-eventsFile cannot be written", file=str(self._path), error=str(error))
                await asyncio.sleep(RETRY)
                continue
            for _ in lines:
                self._waiting.popleft()

    def _append(self, lines: list[str]) -> None:
        if not self._path.exists():
            make_folder(self._path.parent)
            make_file(self._path)
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
