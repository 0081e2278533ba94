"""Subscriber to JSON messages, one object a segment: a worker's events, and the control channel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import structlog
from structlog.typing import FilteringBoundLogger

from gateway.aio.json_text import parse_json_leniently
from gateway.aio.pace import Pace
from gateway.trickle.control import KEEP_ALIVE, MAX_MESSAGE
from gateway.trickle.errors import ChannelLost
from gateway.trickle.subscriber import MAX_EMPTY, TrickleSubscriber

MAX_MESSAGES = 50
MAX_BYTES = 1024 * 1024
"""Limits of messages, and of their bytes, that are read in a second: more come later."""


class JsonSubscriber:
    """Iterates over a channel's JSON objects, without envelopes and keep-alives.

    Starts at segment 0 by default: a channel is made for its job, so nothing in it is old. What is not a
    JSON object or longer than `max_message` bytes is skipped and counted in `unreadable`. With `lines` each
    line of a segment is a message. `name` stands for the URL in logs and errors where that is a secret.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        *,
        start: int = 0,
        max_message: int = MAX_MESSAGE,
        lines: bool = False,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self.unreadable = 0
        self._max_message = max_message
        self._empty = Pace(MAX_EMPTY, clock=clock)
        self._messages = Pace(MAX_MESSAGES, clock=clock)
        self._bytes = Pace(MAX_BYTES, clock=clock)
        self._name = name or url
        self._log = (log or structlog.get_logger("trickle")).bind(channel=self._name)
        self._lines = lines
        self._subscriber = TrickleSubscriber(http, url, name=name, start=start, clock=clock, log=log)

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """Raises ChannelClosed at the end of the stream, ChannelLost when the server cannot be reached.

        Also where more than MAX_EMPTY segments in a second have no message.
        """
        try:
            async for segment in self._subscriber.segments():
                data = await segment.read(self._max_message)
                for text in data.splitlines() if data and self._lines else (data,):
                    message = parse(text) if text else None
                    if message is None and text != b"":
                        self.unreadable += 1
                        self._log.warning("unreadable message", seq=segment.seq)
                    if not message or message == KEEP_ALIVE:
                        if not self._empty.count():
                            raise ChannelLost(f"{self._name}: empty messages without end")
                        continue
                    yield message
                    for pace, units in ((self._messages, 1), (self._bytes, len(text or b""))):
                        if not pace.count(units):
                            await asyncio.sleep(pace.rest)
        finally:
            await self.close()

    async def close(self) -> None:
        """Cancel the open requests. Needed when the iteration was left before its end."""
        await self._subscriber.close()


def parse(data: bytes) -> dict[str, Any] | None:
    """The JSON object in `data`, without its envelope `{"queue_event_type": .., "event": {..}}` if any.

    None where there is no object.
    """
    try:
        message = parse_json_leniently(data)
    except ValueError:
        return None
    if isinstance(message, dict) and "queue_event_type" in message:
        message = message.get("event")
    return message if isinstance(message, dict) else None
