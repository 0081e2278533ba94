"""What a job's worker says of itself over the events channel, and how long it has been silent."""

from __future__ import annotations

import asyncio
import time
from typing import NoReturn

from gateway.reason import Ended, EndReason
from gateway.stream.seam import Json
from gateway.trickle.events import JsonSubscriber

KEPT_OVER_NULL = ("last_params", "last_restart_logs")


class WorkerStatus:
    """The newest status of one worker.

    `max_silence` and `check_interval` are in seconds: how long the worker may say nothing, and how often
    that is checked.
    """

    def __init__(self, url: str, *, max_silence: float, check_interval: float) -> None:
        self.newest: Json = {}
        self.last_event = time.monotonic()
        """When an event came last, on the monotonic clock."""
        self._url = url
        self._max_silence = max_silence
        self._check_interval = check_interval

    async def read(self, events: JsonSubscriber) -> None:
        """Read events until the channel ends. Raises ChannelError."""
        try:
            async for event in events:
                self.last_event = time.monotonic()
                if event.get("type") == "status":
                    self.newest = merge_status(self.newest, event)
        finally:
            await events.close()

    async def watch(self) -> NoReturn:
        """Raises Ended where the worker says nothing for too long."""
        self.last_event = time.monotonic()
        while True:
            await asyncio.sleep(self._check_interval)
            silence = time.monotonic() - self.last_event
            if silence > self._max_silence:
                detail = f"{self._url}: its worker has said nothing for {silence:.0f} s"
                raise Ended(EndReason.ORCHESTRATOR_LOST, detail)


def merge_status(former: Json, event: Json) -> Json:
    """The status after `event`: newer fields count, but a null never hides the last params or logs."""
    merged = {**former, **event}
    before, now = former.get("inference_status"), event.get("inference_status")
    if isinstance(before, dict) and isinstance(now, dict):
        kept = {key: before[key] for key in KEPT_OVER_NULL if now.get(key) is None and key in before}
        merged["inference_status"] = {**now, **kept}
    return merged
