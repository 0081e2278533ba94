"""Publisher of JSON messages, one object a segment: the control channel, and a worker's events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import aiohttp
from structlog.typing import FilteringBoundLogger

from gateway.aio.tasks import TaskGroup
from gateway.trickle.publisher import TricklePublisher
from gateway.trickle.retries import RETRY_DELAY, Retries, UnexpectedAnswer

KEEP_ALIVE_INTERVAL = 10.0
"""Seconds without a message after which a keep-alive is sent."""
KEEP_ALIVE = {"keep": "alive"}
MAX_MESSAGE = 1_048_576
"""Limit in bytes of one JSON object, sent or received."""
MAX_BACKLOG = 64
"""Limit of messages that wait for a slow server."""
MAX_BACKLOG_BYTES = 2 * MAX_MESSAGE


class JsonPublisher:
    """Sends each message after the previous one was taken. Drops none: `publish` refuses when too many wait.

    `keep_alive` is the interval of keep-alive messages in seconds, None for a channel without them. A
    message whose delivery broke off is sent again as the next segment, so a reader may see it twice. With
    `resume` it goes on with a channel that another process has published to, with `lines` each message ends
    as a line does. `name` stands for the URL in logs and errors where that is a secret.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        *,
        keep_alive: float | None = KEEP_ALIVE_INTERVAL,
        retry_delay: float = RETRY_DELAY,
        resume: bool = False,
        lines: bool = False,
        name: str = "",
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self.url = url
        self.sent = 0
        """Messages delivered, including keep-alives."""
        self.waiting_bytes = 0
        """Bytes of the messages that wait."""
        self._publisher = TricklePublisher(
            http,
            url,
            content_type="application/json",
            max_buffer=MAX_MESSAGE,
            retry_delay=retry_delay,
            resume=resume,
            name=name,
            log=log,
        )
        self._end = b"\n" if lines else b""
        self._keep_alive = keep_alive
        self._retry_delay = retry_delay
        self._backlog: asyncio.Queue[bytes] = asyncio.Queue(MAX_BACKLOG)

    def publish(self, message: Mapping[str, Any]) -> bool:
        """Queue `message` to be sent. False when too many wait already.

        Raises ValueError for a message that is longer than MAX_MESSAGE or is not JSON.
        """
        data = _encode(message) + self._end
        if len(data) > MAX_MESSAGE:
            raise ValueError(f"a message of {len(data)} bytes is longer than {MAX_MESSAGE}")
        if self._backlog.full() or self.waiting_bytes + len(data) > MAX_BACKLOG_BYTES:
            return False
        self._backlog.put_nowait(data)
        self.waiting_bytes += len(data)
        return True

    async def run(self) -> None:
        """Send until cancelled or closed. Raises ChannelClosed or ChannelLost."""
        async with TaskGroup() as group:
            sending = group.create_task(self._send_all(), name=f"trickle-json {self._publisher.name}")
            await self._publisher.run()
            sending.cancel()

    async def close(self, *, leave: bool = False) -> bool:
        """Close the channel on the server, or `leave` it open; messages that still wait are not sent.

        Returns whether the server answered, True where it is left.
        """
        return await self._publisher.close(leave=leave)

    async def _send_all(self) -> None:
        while True:
            await self._deliver(await self._next())

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(self._keep_alive):
                data = await self._backlog.get()
        except TimeoutError:
            return _encode(KEEP_ALIVE)
        self.waiting_bytes -= len(data)
        return data

    async def _deliver(self, data: bytes) -> None:
        retries = Retries(self._publisher.name, self._retry_delay)
        while True:
            segment = self._publisher.open_segment()
            segment.write(data)
            segment.close()
            if await segment.wait_delivered():
                self.sent += 1
                return
            await asyncio.sleep(retries.failed(UnexpectedAnswer("the server does not take a message")))


def _encode(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
