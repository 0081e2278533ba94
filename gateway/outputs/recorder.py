"""Recordings: what a stream was and is, in files of an hour, with a JSON beside each."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import structlog

from gateway import money
from gateway.aio.tasks import cancel, spawn
from gateway.outputs.disk import FreeBytes, free_bytes, new_file, until_full
from gateway.outputs.done_commands import DoneCommands
from gateway.outputs.ffmpeg import FfmpegFailed, file_arguments
from gateway.outputs.retention import KEEP_ALL, SUFFIX, KeepRule, Recorded, recorded, remove, to_remove
from gateway.stream.seam import Json
from gateway.stream.status import orchestrator_json, rfc3339
from gateway.stream.stream import Stream

log = structlog.get_logger("record")

FILE_SECONDS = 3_600.0
"""Another file begins with the first key frame after this."""
SWEEP = 60.0
"""Seconds between two looks for what is to be removed."""
SAMPLE = 1.0
"""Seconds between two looks at a stream's parameters and orchestrators."""
MAX_NOTED = 1_000
MAX_PARAMS_NOTED = 4 * 1024 * 1024
"""Limits of what is noted of one stream: changes, and bytes of parameters. The oldest go."""


class RecordOf(StrEnum):
    """What of a stream is recorded."""

    NONE = "none"
    RESULT = "result"
    SOURCE = "source"
    BOTH = "both"

    @property
    def sides(self) -> tuple[bool, ...]:
        """False for the result, True for the source."""
        return {"none": (), "result": (False,), "source": (True,), "both": (False, True)}[self.value]


@dataclass
class _Notes:
    """What changed while a stream was recorded, with the times."""

    orchestrators: list[Json] = field(default_factory=list)
    params: list[Json] = field(default_factory=list)
    _sizes: list[int] = field(default_factory=list)
    """Bytes as JSON of each of `params`."""

    def sample(self, stream: Stream) -> None:
        shown = orchestrator_json(stream.job_status().orchestrator)
        at = rfc3339(datetime.now(UTC))
        if shown is not None and (not self.orchestrators or shown["url"] != self.orchestrators[-1]["url"]):
            self.orchestrators.append({"at": at, **shown})
            del self.orchestrators[:-MAX_NOTED]
        params = dict(stream.params)
        if not self.params or self.params[-1]["params"] != params:
            self.params.append({"at": at, "params": params})
            self._sizes.append(stream.params_size)
            while len(self.params) > 1 and self._noted_too_much():
                del self.params[0], self._sizes[0]

    def _noted_too_much(self) -> bool:
        return len(self.params) > MAX_NOTED or sum(self._sizes) > MAX_PARAMS_NOTED


class RecordedFile:
    """Where one side of a stream is recorded: a destination, a new file for each process and each hour."""

    on_output = None

    def __init__(self, recorder: StreamRecorder, stream: Stream, notes: _Notes, *, source: bool) -> None:
        self._recorder = recorder
        self._stream = stream
        self._notes = notes
        self._source = source
        self._path: Path | None = None
        self._began = 0.0
        self._began_at = ""
        self._credited = 0

    @property
    def shown(self) -> str:
        return "record:"

    async def begin(self, *, audio: bool) -> list[str]:
        name = self._stream.request.name
        self._began, self._began_at = time.monotonic(), rfc3339(datetime.now(UTC))
        self._credited = self._credit()
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        side = "source" if self._source else "result"
        try:
            self._path = await asyncio.to_thread(self._recorder.new_file, name, f"{stamp}-{side}")
            self._recorder.writing.add(self._path)
            await self._describe(0, ended=False)
        except OSError as error:
            if self._path is not None:
                self._recorder.writing.discard(self._path)
                self._path = None
            raise FfmpegFailed(f"the recording cannot be written: {error.strerror or error}") from error
        return file_arguments(str(self._path), audio=audio)

    def is_due(self) -> bool:
        return time.monotonic() - self._began > self._recorder.file_seconds

    async def interrupted(self) -> None:
        await self._recorder.until_full()

    async def ended(self, written: int) -> None:
        path, self._path = self._path, None
        if path is None:
            return
        self._path = path
        kept = written > 0 or await asyncio.to_thread(_has_bytes, path)
        if kept:
            with suppress(OSError):
                await self._describe(written, ended=True)
        else:
            await asyncio.to_thread(remove, [Recorded(path, 0.0, 0)])
        self._path = None
        self._recorder.finished(path, kept=kept)

    def masked(self, text: str) -> str:
        return text.replace(str(self._recorder.folder), "..")

    def _credit(self) -> int:
        payments = self._stream.job_status().payments
        return 0 if payments is None else int(money.whole_wei(payments.credited))

    async def _describe(self, written: int, *, ended: bool) -> None:
        """Write the JSON beside the file, whole or not at all."""
        assert self._path is not None
        self._notes.sample(self._stream)
        request = self._stream.request
        facts = {
            "stream": request.name,
            "request_id": request.request_id,
            "of": "source" if self._source else "result",
            "file": self._path.name,
            "began_at": self._began_at,
            "ended_at": rfc3339(datetime.now(UTC)) if ended else None,
            "bytes": written if ended else None,
            "credited_wei": str(self._credit() - self._credited) if ended else None,
            "stream_credited_wei": str(self._credit()),
            "orchestrators": list(self._notes.orchestrators),
            "params": list(self._notes.params),
        }
        await asyncio.to_thread(_write_json, self._path.with_suffix(".json"), facts)


class StreamRecorder:
    """Writes recordings below one folder, keeps them as long as is wanted, and has each one uploaded."""

    def __init__(
        self,
        folder: Path,
        *,
        retention: KeepRule = KEEP_ALL,
        done: tuple[str, ...] | None = None,
        file_seconds: float = FILE_SECONDS,
        free: FreeBytes = free_bytes,
    ) -> None:
        self.folder = folder
        self.file_seconds = file_seconds
        self.writing: set[Path] = set()
        """Files that are being written."""
        self._retention = retention
        self._free = free
        self._done = None if done is None else DoneCommands(done)
        self._sweeping: asyncio.Task[None] | None = None
        if retention != KEEP_ALL:
            self._sweeping = spawn(self._sweep(), name="record-sweep")

    def notes_of(self, stream: Stream) -> _Notes:
        """What is noted of a stream: its parameters and orchestrators from now on."""
        notes = _Notes()
        notes.sample(stream)
        return notes

    async def keep_notes(self, stream: Stream, notes: _Notes) -> None:
        """Note what changes, for as long as this runs."""
        while True:
            await asyncio.sleep(SAMPLE)
            notes.sample(stream)

    def destination(self, stream: Stream, notes: _Notes, *, source: bool) -> RecordedFile:
        return RecordedFile(self, stream, notes, source=source)

    def new_file(self, stream: str, name: str) -> Path:
        """A file that is not there yet. It reads the disk. Raises OSError; DestinationGone on a full disk."""
        folder = self.folder / (stream if stream.strip(".") else f"_{stream}")
        return new_file(folder / f"{name}{SUFFIX}", taken=self.writing, free=self._free)

    async def until_full(self) -> None:
        """Wait while the disk has room. Raises DestinationGone."""
        await until_full(self.folder, self._free)

    def finished(self, path: Path, *, kept: bool) -> None:
        """A file is written."""
        self.writing.discard(path)
        if self._done is not None and kept:
            self._done.add(path)

    async def close(self) -> None:
        await cancel(self._sweeping)
        if self._done is not None:
            await self._done.close()

    async def _sweep(self) -> None:
        while True:
            removed = await asyncio.to_thread(self._remove_old, frozenset(self.writing))
            if removed:
                log.info("recordings removed", files=removed)
            await asyncio.sleep(SWEEP)

    def _remove_old(self, writing: frozenset[Path]) -> int:
        return remove(to_remove(recorded(self.folder, writing), self._retention, time.time()))


def _write_json(path: Path, facts: Json) -> None:
    new = path.with_suffix(".json.new")
    try:
        new.write_text(json.dumps(facts, indent=1) + "\n")
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _has_bytes(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
