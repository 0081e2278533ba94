"""Delivers the outbox to the operator's server: at least once, in order for each stream, for a day."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

import aiohttp
import structlog
from yarl import URL

from gateway.aio.tasks import TaskGroup
from gateway.events.lanes import Lanes
from gateway.events.signature import signed_headers
from gateway.payments.errors import LedgerError
from gateway.payments.event_outbox import EventOutbox, OutboxEvent
from gateway.telemetry.events import EventHub

log = structlog.get_logger("events")

TIMEOUT = 10.0
"""Seconds for an answer."""
AT_ONCE = 8
"""Streams whose events are under way at once."""
PAGE = 20
"""Events of a stream that are read at once."""
GIVE_UP_AFTER = 86_400
"""Seconds after which an event is dropped."""
LEASE = 40
RENEW_AT = 30.0
"""Seconds of a cluster's lease, and how many are left of it when it is renewed."""
SPARE = TIMEOUT + 5.0
"""Seconds that are left of it when a request begins."""
LOOK = 60.0
LOOK_SHARED = 2.0
"""Seconds between two looks for events that nobody told of; in a cluster for those of other nodes."""
RETRY = 1.0
"""Seconds between two tries while the ledger cannot be read."""


class WebhookDelivery:
    """POSTs each event to `url`, signed with `keys`. `run` delivers until it is cancelled.

    In a cluster the node delivers that holds the lease, for all nodes.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        keys: Sequence[bytes],
        outbox: EventOutbox,
        hub: EventHub,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._url = URL(url)
        self._keys = keys
        self._outbox = outbox
        self._hub = hub
        self._clock = clock
        self._lanes = Lanes()
        self._changed = asyncio.Event()
        self._leased_until = float("-inf")

    def wake(self, streams: Iterable[str]) -> None:
        """Events of these streams were written; who does not deliver now finds them later."""
        if not self._leads:
            return
        for stream in streams:
            self._lanes.add(stream)
        self._changed.set()

    async def run(self) -> NoReturn:
        async with TaskGroup() as group:
            group.create_task(self._look(), name="events look")
            for number in range(AT_ONCE):
                group.create_task(self._deliver(), name=f"events delivery {number}")
        raise AssertionError("events are delivered until the gateway stops")

    async def _look(self) -> NoReturn:
        """Find what waits in the ledger, from a former run or from other nodes, and hold the lease."""
        shared = self._outbox.shared
        while True:
            try:
                now = self._clock()
                if not shared:
                    self._leased_until = float("inf")
                elif now + RENEW_AT > self._leased_until and await self._outbox.lease(LEASE):
                    self._leased_until = now + LEASE
                if self._leads:
                    self.wake(await self._outbox.streams())
            except LedgerError as error:
                log.warning("events cannot be read", error=str(error))
            await asyncio.sleep(LOOK_SHARED if shared else LOOK)

    @property
    def _leads(self) -> bool:
        return self._clock() + SPARE < self._leased_until

    async def _deliver(self) -> NoReturn:
        while True:
            self._changed.clear()
            stream = self._lanes.take(self._clock()) if self._leads else None
            if stream is None:
                wait = self._lanes.wait(self._clock()) if self._leads else None
                try:
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                continue
            try:
                delivered = await self._deliver_all(stream)
            except LedgerError as error:
                log.warning("events cannot be read", error=str(error))
                await asyncio.sleep(RETRY)
                delivered = False
            if delivered:
                self._lanes.emptied(stream)
            else:
                self._lanes.failed(stream, self._clock())

    async def _deliver_all(self, stream: str) -> bool:
        """Whether all events of a stream were delivered, one after the other. Raises LedgerError."""
        while True:
            events = await self._outbox.of_stream(stream, PAGE)
            if not events:
                return True
            for event in events:
                if not self._leads:
                    return False
                if time.time_ns() - event.wall_ns > GIVE_UP_AFTER * 10**9:
                    self._hub.dropped["webhook"] += 1
                    log.error("event dropped: not delivered within a day", id=event.id, stream=stream)
                elif not await self._post(event):
                    return False
                await self._outbox.remove([event.id])
                self._lanes.delivered(stream)

    async def _post(self, event: OutboxEvent) -> bool:
        """Whether the server took the event."""
        signature = signed_headers(event.id, int(time.time()), event.body, self._keys)
        try:
            async with self._http.post(
                self._url,
                data=event.body.encode(),
                headers={"Content-Type": "application/json", **trace_of(event.body), **signature},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
                allow_redirects=False,
                ssl=True,
            ) as response:
                failure = "" if response.status // 100 == 2 else f"status {response.status}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            failure = str(error) or type(error).__name__
        if failure:
            self._hub.failed_attempts += 1
            log.warning("event not delivered", id=event.id, stream=event.stream, error=failure)
            return False
        self._hub.delivered += 1
        return True


_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def trace_of(body: str) -> dict[str, str]:
    """The header that hands on an event's trace; none where it has no trace."""
    if '"traceparent":' not in body:
        return {}
    traceparent = json.loads(body).get("traceparent")
    known = isinstance(traceparent, str) and _TRACEPARENT.fullmatch(traceparent)
    return {"traceparent": traceparent} if known else {}
