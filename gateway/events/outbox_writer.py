"""Writes events to the outbox as they come, those that come during one transaction together."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from gateway import money
from gateway.events.waiting_events import WaitingEvents
from gateway.payments.errors import LedgerBusy, LedgerError, LedgerUnavailable
from gateway.payments.event_outbox import EventOutbox, OpenStream, OutboxEvent
from gateway.payments.ledger import MAX_PUBLISHER
from gateway.payments.steps import clean
from gateway.reason import EndReason
from gateway.telemetry.events import Event, EventHub, EventType, StreamKey

log = structlog.get_logger("events")

BATCH = 500
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
        self._full = False
        self._waiting: WaitingEvents[Event] = WaitingEvents(
            self._write_or_keep, name="events writer", batch=BATCH
        )

    def take(self, event: Event) -> None:
        """Queue an event; it is dropped where too many wait."""
        if self._waiting.put(event):
            self._full = False
            return
        self._hub.dropped[WEBHOOK] += 1
        if not self._full:
            log.error("events are dropped: the ledger takes none", waiting=len(self._waiting))
        self._full = True

    async def close(self) -> None:
        """Write what is left."""
        await self._waiting.close()
        if len(self._waiting) > 0:
            log.error("events were not written", events=len(self._waiting))

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

    async def _write_or_keep(self, batch: list[Event]) -> bool:
        try:
            await self._write(batch)
        except (LedgerUnavailable, LedgerBusy) as error:
            log.warning("events cannot be written", error=str(error), waiting=len(self._waiting))
            return False
        except LedgerError as error:
            self._hub.dropped[WEBHOOK] += len(batch)
            log.error("events were not written", events=len(batch), error=str(error))
        return True

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
