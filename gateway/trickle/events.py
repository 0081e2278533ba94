"""Subscriber to JSON messages, one object a segment: a worker's events, and the control channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import structlog
from structlog.typing import FilteringBoundLogger

from gateway.aio.json_text import parse_json_leniently
from gateway.trickle.control import KEEP_ALIVE, MAX_MESSAGE
from gateway.trickle.subscriber import TrickleSubscriber


class JsonSubscriber:
    """Iterates over a channel's JSON objects, without envelopes and keep-alives.

    Starts at segment 0 by default: a channel is made for its job, so nothing in it is old. What is not a
    JSON object or too long is skipped and counted in `unreadable`.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        *,
        start: int = 0,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self.unreadable = 0
        self._log = (log or structlog.get_logger("trickle")).bind(channel=url)
        self._subscriber = TrickleSubscriber(http, url, start=start, log=log)

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """Raises ChannelClosed at the end of the stream, ChannelLost when the server cannot be reached."""
        try:
            async for segment in self._subscriber.segments():
                data = await segment.read(MAX_MESSAGE)
                if data == b"":
                    continue
                message = None if data is None else parse(data)
                if message is None:
                    self.unreadable += 1
                    self._log.warning("unreadable message", seq=segment.seq)
                elif message != KEEP_ALIVE:
                    yield message
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
