"""Events for others: what happens to streams, as it happens, for webhooks, files and readers over HTTP.

Nothing here waits: `emit` hands an event to the sinks and to each reader's queue, which are all bounded.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol

from gateway.telemetry.tracing import current

Json = dict[str, Any]

MAX_RECENT = 1000
"""Events that are kept for readers that come back."""
MAX_TEXT = 2000
"""Characters of a text in an event."""
MAX_QUEUED = 256
"""Messages that wait for one reader."""
MAX_QUEUED_BYTES = 1024 * 1024
"""Their bytes: a reader that is slower loses its connection."""
MAX_READERS = 1000
"""Of all streams' events, and as many of single streams'."""


class EventType(StrEnum):
    STREAM_CREATED = "stream.created"
    STREAM_LIVE = "stream.live"
    STREAM_SWAPPED = "stream.swapped"
    STREAM_STANDBY = "stream.standby"
    STREAM_ENDED = "stream.ended"
    PAYMENT_FAILED = "payment.failed"
    LIMIT_NEAR = "limit.near"
    ORCHESTRATOR_SUSPENDED = "orchestrator.suspended"
    NODE_DRAINING = "node.draining"
    EVENTS_DROPPED = "events.dropped"


WORKER = "worker"
"""The type of what a stream's worker says: for readers of that stream only."""
PRIVATE = frozenset({"publisher", "customer"})
"""Fields that those who watch a stream do not get."""


@dataclass(frozen=True, slots=True)
class StreamKey:
    """Which stream an event is about. The order of events holds among those of one name."""

    name: str
    stream_id: str = ""
    request_id: str = ""
    publisher: str = ""
    customer: str = ""

    def json(self) -> Json:
        return {
            "stream": self.name,
            "stream_id": self.stream_id,
            "request_id": self.request_id,
            "publisher": self.publisher,
            "customer": self.customer,
        }


@dataclass(frozen=True)
class Event:
    """One event; `wall_ns` is when it happened, in nanoseconds since 1970."""

    type: EventType
    data: Mapping[str, Any]
    stream: StreamKey | None = None
    node: str = ""
    wall_ns: int = field(default_factory=time.time_ns)
    id: str = field(default_factory=lambda: f"evt_{uuid.uuid4().hex}")
    for_operator: bool = False
    """Those who watch the stream do not get it."""
    traceparent: str = field(default_factory=lambda: current().traceparent)
    """The trace of the stream's publish, for the operator."""

    @cached_property
    def text(self) -> str:
        """The event as JSON, for the operator."""
        return self._json(frozenset(), traceparent=self.traceparent)

    @cached_property
    def public_text(self) -> str:
        """The same without what is not for those who watch the stream."""
        return self._json(PRIVATE)

    def _json(self, without: frozenset[str], *, traceparent: str = "") -> str:
        data = {**({} if self.stream is None else self.stream.json()), **self.data}
        shown = {key: clip(value) for key, value in data.items() if key not in without}
        at = datetime.fromtimestamp(self.wall_ns / 1e9, UTC).isoformat(timespec="milliseconds")
        whole = {"id": self.id, "type": self.type, "timestamp": at.replace("+00:00", "Z")}
        if self.node:
            whole["node"] = self.node
        if traceparent:
            whole["traceparent"] = traceparent
        return json.dumps({**whole, "data": shown}, separators=(",", ":"))


def clip(value: Any) -> Any:
    """Texts of a bounded length; all else as it is."""
    return value[:MAX_TEXT] if isinstance(value, str) else value


class Reader:
    """One who reads events as they come: of all streams, or of one (`stream`) with what its worker says."""

    def __init__(self, stream: str | None, abort: Callable[[], None]) -> None:
        self.stream = stream
        self._abort = abort
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._closed = False

    def push(self, message: bytes) -> None:
        """Queue a message; a reader for which too many wait loses its connection."""
        if self._closed:
            return
        if len(self._queue) >= MAX_QUEUED or self._bytes + len(message) > MAX_QUEUED_BYTES:
            self._queue.clear()
            self.close()
            self._abort()
            return
        self._queue.append(message)
        self._bytes += len(message)
        self._changed.set()

    def close(self) -> None:
        """Have `take` give None once the queue is empty."""
        self._closed = True
        self._changed.set()

    async def take(self, timeout: float) -> bytes | None:
        """All that waits; empty after so many seconds without a message; None at the end."""
        if not self._queue and not self._closed:
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
            except TimeoutError:
                return b""
        taken = b"".join(self._queue)
        self._queue.clear()
        self._bytes = 0
        self._changed.clear()
        return None if self._closed and not taken else taken


class RemoteEvents(Protocol):
    """Other nodes, as the hub sees them; names are those of streams."""

    def told(self, stream: str, message: bytes) -> None:
        """A message for readers of a stream that this node has."""

    async def watch(self, stream: str) -> None:
        """One more reader here. To be followed by `unwatch`."""

    async def unwatch(self, stream: str) -> None:
        """One reader less."""


class TooManyReaders(Exception):
    """As many read events as may at once."""


class EventHub:
    """Where events are emitted and read. `node` is this node's name in a cluster."""

    def __init__(self, node: str = "") -> None:
        self.node = node
        self.sinks: list[Callable[[Event], None]] = []
        """Called with each event; they must not block."""
        self.remote: RemoteEvents | None = None
        """Other nodes of a cluster; None without."""
        self.emitted: Counter[str] = Counter()
        """Events so far, by type."""
        self.dropped: Counter[str] = Counter()
        """Events that were not delivered, by where: `webhook`, `file`."""
        self.delivered = 0
        """Events that the webhook's server took."""
        self.failed_attempts = 0
        """Requests to it that failed."""
        self._recent: deque[Event] = deque(maxlen=MAX_RECENT)
        self._readers: set[Reader] = set()

    def emit(
        self,
        kind: EventType,
        data: Mapping[str, Any],
        stream: StreamKey | None = None,
        *,
        for_operator: bool = False,
    ) -> None:
        """Tell everybody of an event, or only the operator and its programs."""
        event = Event(kind, data, stream, self.node, for_operator=for_operator)
        self.emitted[kind] += 1
        self._recent.append(event)
        for sink in self.sinks:
            sink(event)
        for reader in list(self._readers):
            if reader.stream is None:
                reader.push(frame(event.text, event.type, event.id))
        if stream is None or for_operator:
            return
        if self._watched(stream.name) or self.remote is not None:
            self._to_stream(stream.name, frame(event.public_text, event.type, event.id))

    def worker_said(self, stream: StreamKey, said: Mapping[str, Any]) -> None:
        """Tell the readers of a stream what its worker said."""
        if not self._watched(stream.name) and self.remote is None:
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        data = {"stream": stream.name, "request_id": stream.request_id, "event": said}
        text = json.dumps({"type": WORKER, "timestamp": at, "data": data}, separators=(",", ":"))
        self._to_stream(stream.name, frame(text, WORKER))

    def of_other_node(self, stream: str, message: bytes) -> None:
        """Another node's message for readers of a stream."""
        for reader in list(self._readers):
            if reader.stream == stream:
                reader.push(message)

    @contextmanager
    def reading(self, stream: str | None, after: str, abort: Callable[[], None]) -> Iterator[Reader]:
        """A reader of all streams' events, or of one stream's.

        It begins after the event with the id `after`, where that is among the last ones; with none of them
        where it is empty, with all where the id is unknown. Raises TooManyReaders.
        """
        alike = sum((reader.stream is None) == (stream is None) for reader in self._readers)
        if alike >= MAX_READERS:
            raise TooManyReaders(f"{MAX_READERS} connections read events")
        reader = Reader(stream, abort)
        for event in self.recent(after)[-MAX_QUEUED // 2 :] if after else ():
            if stream is None:
                reader.push(frame(event.text, event.type, event.id))
            elif event.stream is not None and event.stream.name == stream and not event.for_operator:
                reader.push(frame(event.public_text, event.type, event.id))
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def recent(self, after: str = "") -> list[Event]:
        """The last events, oldest first: those after the event with this id, else all."""
        events = list(self._recent)
        found = next((place for place, event in enumerate(events) if event.id == after), -1)
        return events[found + 1 :]

    def close_readers(self) -> None:
        """The gateway stops: end all connections."""
        for reader in self._readers:
            reader.close()

    def _watched(self, stream: str) -> bool:
        return any(reader.stream == stream for reader in self._readers)

    def _to_stream(self, stream: str, message: bytes) -> None:
        self.of_other_node(stream, message)
        if self.remote is not None:
            self.remote.told(stream, message)


def frame(text: str, kind: str, event_id: str = "") -> bytes:
    """A message of an event stream (WHATWG HTML, 9.2); JSON has no line breaks."""
    named = f"id: {event_id}\n" if event_id else ""
    return f"{named}event: {kind}\ndata: {text}\n\n".encode()
