"""The outputs of all streams: who may have which, and their life beside the streams'."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from gateway.aio.tasks import cancel, spawn
from gateway.outputs.destinations import FarEnd, FileEnd
from gateway.outputs.hosts import HostRules, Resolve, TooManyNames, system_addresses
from gateway.outputs.output import Destination, Output, OutputState
from gateway.outputs.recorder import RecordOf, StreamRecorder
from gateway.outputs.settings import OutputSettings
from gateway.outputs.source_tap import SourceTap
from gateway.outputs.target import BadTarget, Target, parse_target
from gateway.stream.seam import Json
from gateway.stream.stream import Stream

log = structlog.get_logger("output")

CLOSE = 30.0
"""Seconds that outputs may take to end when the gateway stops."""


class OutputRefused(Exception):
    """An output that cannot be; the text is a sentence without secrets."""


class TooManyOutputs(OutputRefused):
    """As many run as may."""


@dataclass
class _Entry:
    output: Output
    url: str
    """Empty for the operator's own."""
    by_query: bool
    """Whether the publish asked for it, not a later request."""
    detach: Callable[[], None]


@dataclass
class _Beside:
    """What runs beside one stream."""

    stream: Stream
    entries: dict[str, _Entry] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    noting: asyncio.Task[None] | None = None
    """Notes for the recordings what changes."""


class Outputs:
    """Starts outputs when a stream is published or somebody asks for one, and ends them with the stream."""

    def __init__(
        self,
        settings: OutputSettings,
        request_key_frame: Callable[[str], None],
        *,
        resolve: Resolve = system_addresses,
    ) -> None:
        self._settings = settings
        self._request_key_frame = request_key_frame
        self._rules = HostRules(settings.hosts, resolve)
        record = settings.record
        self._record = record
        self._recorder = None
        if record is not None:
            self._recorder = StreamRecorder(record.folder, retention=record.retention, done=record.done)
        self._beside: dict[str, _Beside] = {}
        """By request id."""
        self._ending: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Those of publishers."""
        return sum(1 for beside in self._beside.values() for one in beside.entries.values() if one.url)

    async def check(self, urls: Sequence[str]) -> list[Target]:
        """The targets of URLs that a publisher or the webhook gave. Raises OutputRefused."""
        targets = []
        if len(set(urls)) > self._settings.per_stream:
            raise TooManyOutputs(f"a stream may have {self._settings.per_stream} outputs")
        if urls and shutil.which(self._settings.program) is None:
            raise OutputRefused("this gateway has no FFmpeg, so it sends no outputs")
        for url in dict.fromkeys(urls):
            try:
                target = parse_target(url)
                if not target.is_network:
                    raise BadTarget("only the operator may have files written, by -output")
                await self._rules.address_of(target)
            except TooManyNames as error:
                raise TooManyOutputs(f"{error}: try again later") from error
            except BadTarget as error:
                raise OutputRefused(f"the output cannot be served: {error}") from error
            targets.append(target)
        return targets

    def begin(self, stream: Stream, targets: Sequence[Target], record: RecordOf | None = None) -> None:
        """A publisher has come, with these targets: those of its publish before that it names no more end.

        `record` is what its token or the webhook says is recorded; None: nothing.
        """
        if self._record is None or record is None:
            record = RecordOf.NONE if self._record is None else self._record.what
        sides = record.sides
        wanted_any = targets or self._settings.always or sides
        if not wanted_any and stream.request.request_id not in self._beside:
            return
        beside = self._of(stream)
        wanted = {target.url for target in targets}
        for entry in list(beside.entries.values()):
            if entry.by_query and entry.url not in wanted:
                self._drop(beside, entry)
        if beside.noting is None and sides:
            self._start_recording(beside, sides)
        present = {entry.url for entry in beside.entries.values()}
        for target in targets:
            if target.url not in present:
                try:
                    self._add(beside, target, source=False, by_query=True)
                except TooManyOutputs as error:
                    log.warning("output left out", stream=stream.request.name, detail=str(error))

    async def add(self, stream: Stream, url: str, *, source: bool) -> Json:
        """Begin another output; gives what `status` shows of it. Raises OutputRefused."""
        self._check_room(self._beside.get(stream.request.request_id))
        target = (await self.check([url]))[0]
        beside = self._of(stream)
        if any(entry.url == url and entry.output.source is source for entry in beside.entries.values()):
            raise OutputRefused("the stream goes there already")
        return _json(self._add(beside, target, source=source, by_query=False))

    def remove(self, stream: Stream, output_id: str) -> bool:
        """End an output of a publisher's. False where there is none of this id."""
        beside = self._beside.get(stream.request.request_id)
        entry = None if beside is None else beside.entries.get(output_id)
        if beside is None or entry is None or not entry.url:
            return False
        self._drop(beside, entry)
        return True

    def status(self, stream: Stream) -> list[Json]:
        beside = self._beside.get(stream.request.request_id)
        return [] if beside is None else [_json(entry.output) for entry in beside.entries.values()]

    async def close(self) -> None:
        """End all of them, and wait for those that end already: their recordings are to be uploaded, too."""
        await asyncio.gather(*(self._end(beside) for beside in list(self._beside.values())))
        if self._ending:
            await asyncio.wait(self._ending, timeout=CLOSE)
        if self._recorder is not None:
            await self._recorder.close()

    def _of(self, stream: Stream) -> _Beside:
        beside = self._beside.get(stream.request.request_id)
        if beside is None:
            beside = self._beside[stream.request.request_id] = _Beside(stream)
            for target in self._settings.always:
                self._start(beside, target, url="", source=False, by_query=False)
            beside.task = self._spawn(self._until_end(beside), f"outputs {stream.request.request_id}")
        return beside

    async def _until_end(self, beside: _Beside) -> None:
        await beside.stream.finished.wait()
        beside.task = None
        await self._end(beside)

    async def _end(self, beside: _Beside) -> None:
        self._beside.pop(beside.stream.request.request_id, None)
        await cancel(beside.task, beside.noting)
        entries = list(beside.entries.values())
        beside.entries.clear()
        for entry in entries:
            entry.detach()
        await asyncio.gather(*(entry.output.close() for entry in entries))

    def _add(self, beside: _Beside, target: Target, *, source: bool, by_query: bool) -> Output:
        self._check_room(beside)
        return self._start(beside, target, url=target.url, source=source, by_query=by_query)

    def _check_room(self, beside: _Beside | None) -> None:
        """Raises TooManyOutputs where none may come."""
        own = 0 if beside is None else sum(1 for entry in beside.entries.values() if entry.url)
        if own >= self._settings.per_stream:
            raise TooManyOutputs(f"a stream may have {self._settings.per_stream} outputs: end one first")
        if len(self) >= self._settings.total:
            raise TooManyOutputs(f"{self._settings.total} outputs run, more are not allowed: try again later")

    def _start(self, beside: _Beside, target: Target, *, url: str, source: bool, by_query: bool) -> Output:
        name = beside.stream.request.name
        destination: Destination
        if not target.is_network:
            destination = FileEnd(target, name)
        else:
            destination = FarEnd(target, self._rules) if url else FarEnd(target.of(name), None)
        return self._run(beside, destination, url=url, source=source, by_query=by_query)

    def _start_recording(self, beside: _Beside, sides: Sequence[bool]) -> None:
        assert self._recorder is not None
        notes = self._recorder.notes_of(beside.stream)
        noting = self._recorder.keep_notes(beside.stream, notes)
        beside.noting = spawn(noting, name=f"record-notes {beside.stream.request.request_id}")
        for source in sides:
            destination = self._recorder.destination(beside.stream, notes, source=source)
            self._run(beside, destination, url="", source=source, by_query=False)

    def _run(
        self, beside: _Beside, destination: Destination, *, url: str, source: bool, by_query: bool
    ) -> Output:
        stream = beside.stream
        name = stream.request.name
        output = Output(
            destination,
            self._settings.program,
            log=log.bind(stream=name),
            source=source,
            request_key_frame=partial(self._request_key_frame, name),
        )
        beside.entries[output.id] = _Entry(output, url, by_query, attach(stream, output, source=source))
        output.start()
        return output

    def _drop(self, beside: _Beside, entry: _Entry) -> None:
        beside.entries.pop(entry.output.id, None)
        entry.detach()
        self._spawn(entry.output.close(), f"output-close {entry.output.id}")

    def _spawn(self, ending: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = spawn(ending, name=name)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task


def attach(stream: Stream, output: Output, *, source: bool) -> Callable[[], None]:
    """Have an output take the stream's frames from the last key frame on. Gives what undoes it."""
    if source:
        tap = SourceTap(output)
        for frame in stream.held.frames():
            tap.on_frame(frame)
        stream.source_taps.append(tap)
        return partial(stream.source_taps.remove, tap)
    for frame in stream.output.held_frames():
        output.on_frame(frame)
    stream.output.taps.append(output)
    return partial(stream.output.taps.remove, output)


def _json(output: Output) -> Json:
    return {
        "id": output.id,
        "url": output.destination.shown,
        "source": output.source,
        "state": str(output.state),
        "bytes": output.bytes,
        "dropped": output.queue.dropped,
        "restarts": output.restarts,
        "error": output.error if output.state is not OutputState.LIVE else "",
    }
