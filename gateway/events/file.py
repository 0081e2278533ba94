"""Appends events to a file, one JSON object a line, in a thread of the pool."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import structlog

from gateway.events.waiting_events import WaitingEvents
from gateway.private_files import make_file, make_folder
from gateway.telemetry.events import Event, EventHub

log = structlog.get_logger("events")

FILE = "file"


class EventFile:
    """A sink of `hub`. The file is opened for each write: it may be moved away at any time."""

    def __init__(self, path: Path, hub: EventHub) -> None:
        self._path = path
        self._hub = hub
        self._waiting: WaitingEvents[str] = WaitingEvents(self._write, name="events file")

    def take(self, event: Event) -> None:
        """Queue an event; it is dropped where too many wait."""
        if not self._waiting.put(event.text):
            self._hub.dropped[FILE] += 1

    async def close(self) -> None:
        """Write what is left."""
        await self._waiting.close()

    async def _write(self, lines: Sequence[str]) -> bool:
        try:
            await asyncio.to_thread(self._append, lines)
        except OSError as error:
            log.error("-eventsFile cannot be written", file=str(self._path), error=str(error))
            return False
        return True

    def _append(self, lines: Sequence[str]) -> None:
        if not self._path.exists():
            make_folder(self._path.parent)
            make_file(self._path)
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
