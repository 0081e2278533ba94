"""What a job's worker says of itself over the events channel, and how long it has been silent."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import NoReturn

from gateway.reason import Ended, EndReason
from gateway.stream.seam import Json
from gateway.trickle.events import JsonSubscriber

MAX_STATUS = 256 * 1024
"""Limit in bytes of an event, and of the status that is merged of all."""
INCOMPLETE = "incomplete"
"""The status' field that says that former events were dropped for its size."""
KEPT_OVER_NULL = ("last_params", "last_restart_logs")


class WorkerStatus:
    """The newest status of one worker, merged of its events while that is at most MAX_STATUS bytes.

    `max_silence` and `check_interval` are in seconds: how long the worker may say nothing, and how often
    that is checked.
    """

    def __init__(
        self,
        url: str,
        *,
        max_silence: float,
        check_interval: float,
        tell: Callable[[Json], None] = lambda event: None,
    ) -> None:
        """`tell` is called with each event."""
        self._tell = tell
        self.newest: Json = {}
        self.last_event = time.monotonic()
        """When an event came last, on the monotonic clock."""
        self._at_most = 0
        """Bytes that `newest` has at most, as JSON."""
        self._url = url
        self._max_silence = max_silence
        self._check_interval = check_interval

    async def read(self, events: JsonSubscriber) -> None:
        """Read events until the channel ends. Raises ChannelError."""
        try:
            async for event in events:
                self.take(event)
        finally:
            await events.close()

    def take(self, event: Json) -> None:
        """Take one event that has come."""
        self.last_event = time.monotonic()
        self._tell(event)
        if event.get("type") == "status":
            self.newest = self._bounded(merge_status(self.newest, event), event)

    def _bounded(self, merged: Json, event: Json) -> Json:
        """The merged status, or the event alone, with a flag, where that is larger than MAX_STATUS."""
        size = _size(event)
        if self._at_most + size > MAX_STATUS:  # without a look at each status that is small
            self._at_most = _size(merged)
            if self._at_most > MAX_STATUS:
                self._at_most = size
                return {**event, INCOMPLETE: True}
        else:
            self._at_most += size
        return merged

    async def watch(self) -> NoReturn:
        """Raises Ended where the worker says nothing for too long."""
        self.last_event = time.monotonic()
        while True:
            await asyncio.sleep(self._check_interval)
            silence = time.monotonic() - self.last_event
            if silence > self._max_silence:
                detail = f"{self._url}: its worker has said nothing for {silence:.0f} s"
                raise Ended(EndReason.ORCHESTRATOR_LOST, detail)


def _size(value: Json) -> int:
    return len(json.dumps(value, separators=(",", ":")))


def merge_status(former: Json, event: Json) -> Json:
    """The status after `event`: newer fields count, but a null never hides the last params or logs."""
    merged = {**former, **event}
    before, now = former.get("inference_status"), event.get("inference_status")
    if isinstance(before, dict) and isinstance(now, dict):
        kept = {key: before[key] for key in KEPT_OVER_NULL if now.get(key) is None and key in before}
        merged["inference_status"] = {**now, **kept}
    return merged
