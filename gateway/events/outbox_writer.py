"""Writes events to the outbox as they come, those that come during one transaction together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from gateway import money
from gateway.aio.tasks import cancel, spawn
from gateway.payments.errors import LedgerBusy, LedgerError, LedgerUnavailable
from gateway.payments.event_outbox import EventOutbox, OpenStream, OutboxEvent
from gateway.payments.ledger import MAX_PUBLISHER
from gateway.payments.steps import clean
from gateway.reason import EndReason
from gateway.telemetry.events import Event, EventHub, EventType, StreamKey

log = structlog.get_logger("events")

MAX_WAITING = 10_000
"""Events in memory while the ledger cannot be written: later ones are dropped."""
BATCH = 500
RETRY = 1.0
LAST_WRITE_TIMEOUT = 5.0
"""Seconds for what is left to write when the gateway stops."""
WEBHOOK = "webhook"
KILLED = "the gateway stopped without ending it; found at the next start"


class OutboxWriter:
    """A sink of `hub`. `written` is called with the streams of what was written.

    Writes from its making on; `close` writes what is left.
    """

    def __init__(self, hub: EventHub, outbox: EventOutbox, written: Callable[[set[str]], None]) -> None:
        self._hub = hub
        self._outbox = outbox
        self._written = written
        self._waiting: deque[Event] = deque()
        self._came = asyncio.Event()
        self._closing = False
        self._full = False
        self._writing = spawn(self._run(), name="events writer")

    def take(self, event: Event) -> None:
        """Queue an event; it is dropped where too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            self._hub.dropped[WEBHOOK] += 1
            if not self._full:
                log.error("events are dropped: the ledger takes none", waiting=MAX_WAITING)
            self._full = True
            return
        self._full = False
        self._waiting.append(event)
        self._came.set()

    async def close(self) -> None:
        """Write what is left."""
        self._closing = True
        self._came.set()
        try:
            async with asyncio.timeout(LAST_WRITE_TIMEOUT):
                await asyncio.shield(self._writing)
        except TimeoutError:
            log.error("events were not written", events=len(self._waiting))
            await cancel(self._writing)

    async def end_former(self, going_on: set[str]) -> None:
        """Emit the end of the streams of a former run that do not go on. Raises LedgerError."""
        for one in await self._outbox.open_streams():
            if one.request_id in going_on:
                continue
            credited = await self._outbox.credited(one)
            data = {
                "reason": str(EndReason.INTERNAL_ERROR),
                "detail": KILLED,
                "credited_wei": money.whole_wei(credited),
            }
            key = StreamKey(one.stream, one.stream_id, one.request_id, one.publisher, one.customer)
            self._hub.emit(EventType.STREAM_ENDED, data, key)

    async def _run(self) -> None:
        while not self._closing or self._waiting:
            if not self._waiting:
                await self._came.wait()
                self._came.clear()
                continue
            batch = [self._waiting[place] for place in range(min(BATCH, len(self._waiting)))]
            try:
                await self._write(batch)
            except (LedgerUnavailable, LedgerBusy) as error:
                log.warning("events cannot be written", error=str(error), waiting=len(self._waiting))
                await asyncio.sleep(RETRY)
                continue
            except LedgerError as error:
                self._hub.dropped[WEBHOOK] += len(batch)
                log.error("events were not written", events=len(batch), error=str(error))
            for _ in batch:
                self._waiting.popleft()

    async def _write(self, batch: list[Event]) -> None:
        rows = [OutboxEvent(one.id, _lane(one), one.text, one.wall_ns) for one in batch]
        begun = {
            one.stream.request_id: _open(one, one.stream)
            for one in batch
            if one.stream is not None and one.type in (EventType.STREAM_CREATED, EventType.STREAM_LIVE)
        }
        ended = [
            one.stream.request_id
            for one in batch
            if one.stream is not None and one.type is EventType.STREAM_ENDED
        ]
        dropped = await self._outbox.add(rows, begun=list(begun.values()), ended=ended)
        self._written({row.stream for row in rows})
        if dropped:
            self._hub.dropped[WEBHOOK] += dropped
            log.error("old events were dropped: too many wait for -eventWebhookUrl", events=dropped)
            detail = "too many events waited for the webhook's server: the oldest were dropped"
            self._hub.emit(EventType.EVENTS_DROPPED, {"events": dropped, "detail": detail})


def _lane(event: Event) -> str:
    return "" if event.stream is None else event.stream.name


def _open(event: Event, key: StreamKey) -> OpenStream:
    publisher, customer = (clean(one, MAX_PUBLISHER) for one in (key.publisher, key.customer))
    return OpenStream(key.request_id, key.name, key.stream_id, publisher, customer, event.wall_ns)
