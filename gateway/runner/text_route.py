"""Reads texts from a route of an app: server-sent events, JSON lines, or one JSON object each time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from structlog.typing import FilteringBoundLogger

from gateway.aio.pace import Pace
from gateway.trickle.events import MAX_BYTES, MAX_MESSAGES, parse

PAUSE = 2.0
"""Seconds from the end of one answer to the next request."""
CONNECT_TIMEOUT = 5.0
AT_ONCE = 16 * 1024
"""Bytes that are looked at before others have their turn."""


class Lines:
    """Splits bytes into lines of at most `limit` bytes; longer ones are left out."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""
        self._too_long = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that end in these bytes."""
        *whole, rest = data.split(b"\n")
        lines = []
        for line in whole:
            if not self._too_long and len(self._rest) + len(line) <= self._limit:
                lines.append(self._rest + line)
            self._rest, self._too_long = b"", False
        if self._too_long or len(self._rest) + len(rest) > self._limit:
            self._rest, self._too_long = b"", True
        else:
            self._rest += rest
        return lines


def message_of(line: bytes) -> dict[str, Any] | None:
    """The object in a line: of server-sent events the data, which fits in one; None where there is none."""
    text = line.removeprefix(b"data:").strip()
    return parse(text) if text[:1] == b"{" else None


class TextRoute:
    """One route, asked again after each answer until cancelled. `url` is a secret, and stands in no log."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        log: FilteringBoundLogger,
        *,
        max_text: int,
        pause: float = PAUSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._url = url
        self._log = log
        self._max_text = max_text
        self._pause = pause
        self._messages = Pace(MAX_MESSAGES, clock=clock)
        self._bytes = Pace(MAX_BYTES, clock=clock)

    async def texts(self) -> AsyncIterator[dict[str, Any]]:
        """Each text once: not again where the next answer begins with the same."""
        failed, last = "", None
        while True:
            try:
                async for text in self._answer():
                    if text != last:
                        last = text
                        yield text
            except (aiohttp.ClientError, OSError) as error:
                if failed != type(error).__name__:
                    failed = type(error).__name__
                    self._log.info("the app's texts cannot be read", error=failed)
            await asyncio.sleep(self._pause)

    async def _answer(self) -> AsyncIterator[dict[str, Any]]:
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
        accept = {"Accept": "text/event-stream, application/json"}
        lines = Lines(self._max_text)
        async with self._http.get(
            self._url, timeout=limits, headers=accept, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise aiohttp.ClientError(f"HTTP {response.status}")
            async for data in response.content.iter_any():
                for start in range(0, len(data), AT_ONCE):
                    for line in lines.feed(data[start : start + AT_ONCE]):
                        if (text := message_of(line)) is not None:
                            yield text
                            await self._rest(self._messages, 1)
                    await asyncio.sleep(0)
                await self._rest(self._bytes, len(data))
            for line in lines.feed(b"\n"):
                if (text := message_of(line)) is not None:
                    yield text

    @staticmethod
    async def _rest(pace: Pace, units: int) -> None:
        if not pace.count(units):
            await asyncio.sleep(pace.rest)
