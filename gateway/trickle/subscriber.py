"""Subscriber of a trickle channel: reads each segment while it is written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass

import aiohttp
import structlog
from structlog.typing import FilteringBoundLogger

from gateway.aio import tasks
from gateway.aio.pace import Pace
from gateway.trickle import wire
from gateway.trickle.errors import ChannelClosed, ChannelError, ChannelLost
from gateway.trickle.retries import RETRY_DELAY, Retries, UnexpectedAnswer, describe

MAX_EMPTY = 10
"""Limit of segments without a byte in a second: each costs a request."""
MAX_SEGMENTS = 100
"""Limit of segments that are read in a second, twice what one for each packet of sound makes."""
READ_BUFFER = 65_536
"""Bytes of a segment read ahead of its reader; a chunk is at most twice as long."""


class SegmentReader:
    """One segment, read while it is still being written."""

    def __init__(self, seq: int, response: aiohttp.ClientResponse) -> None:
        self.seq = seq
        self.truncated = False
        """The server cut the segment off before its end."""
        self.empty = False
        """It was read to its end, and nothing was in it."""
        self._response = response

    async def chunks(self) -> AsyncIterator[bytes]:
        """Its bytes as they arrive. Ends early, with `truncated` set, when the connection breaks."""
        self.empty = True
        try:
            while chunk := await self._response.content.readany():
                self.empty = False
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            error.__traceback__ = None  # the response refers to the error, which would keep this frame
            self.truncated = True

    async def read(self, limit: int) -> bytes | None:
        """The whole segment, or None where it is truncated or longer than `limit` bytes."""
        parts, size = [], 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit:
                return None
            parts.append(chunk)
        return None if self.truncated else b"".join(parts)


@dataclass(frozen=True, slots=True)
class _Answer:
    seq: int
    response: aiohttp.ClientResponse


class TrickleSubscriber:
    """Follows one channel; the request for a segment is open before its first byte is there (preconnect).

    `start` is a segment's number, wire.NEXT or wire.NEWEST; 0 misses nothing of a new channel.
    `http` must have a connector without a limit on connections (see TricklePublisher).
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        *,
        name: str = "",
        start: int = wire.NEXT,
        ask_anew: float = wire.ASK_ANEW,
        retry_delay: float = RETRY_DELAY,
        clock: Callable[[], float] = time.monotonic,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._name = name or self.url
        self.segments_read = 0
        """Segments given to the reader, including empty ones."""
        self.gaps = 0
        """Segments between the first and the newest that were never received."""
        self.truncated = 0
        """Segments that broke off before their end."""
        self._http = http
        self._start = start
        self._ask_anew = ask_anew
        self._clock = clock
        self._log = (log or structlog.get_logger("trickle")).bind(channel=self._name)
        self._retries = Retries(self._name, retry_delay)
        self._empty = Pace(MAX_EMPTY, clock=clock)
        self._segments = Pace(MAX_SEGMENTS, clock=clock)
        self._warnings = Pace(1, clock=clock)
        self._ahead: asyncio.Task[_Answer | ChannelError] | None = None
        self._reading: aiohttp.ClientResponse | None = None

    async def segments(self) -> AsyncGenerator[SegmentReader, None]:
        """Each segment in order. Read it before the next is taken: what is unread then is skipped.

        Raises ChannelClosed at the end of the stream, ChannelLost when the server cannot be reached, or sends
        more than MAX_EMPTY empty segments in a second.
        """
        expected = self._start
        self._ahead = self._request(expected)
        try:
            while (ahead := self._ahead) is not None:
                await asyncio.wait([ahead])
                if ahead.cancelled():
                    return  # `close` was called
                answer = ahead.result()
                if isinstance(answer, ChannelError):
                    raise type(answer)(str(answer))  # a copy: the traceback would keep this frame alive
                self._reading = answer.response
                self._count_gap(expected, answer.seq)
                expected = answer.seq + 1 if answer.seq >= 0 else wire.NEXT
                self._ahead = self._request(expected)
                self.segments_read += 1
                reader = SegmentReader(answer.seq, answer.response)
                yield reader
                self.truncated += reader.truncated
                answer.response.close()
                if reader.empty and not self._empty.count():
                    raise ChannelLost(f"{self._name}: empty segments without end")
                if not self._segments.count():
                    await asyncio.sleep(self._segments.rest)
        finally:
            await self.close()

    async def close(self) -> None:
        """Cancel the open requests. Needed when `segments` was left before its end."""
        ahead, self._ahead = self._ahead, None
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.close()
        if ahead is not None:
            await tasks.cancel(ahead)
            if not ahead.cancelled() and isinstance(answer := ahead.result(), _Answer):
                answer.response.close()

    def _request(self, seq: int) -> asyncio.Task[_Answer | ChannelError]:
        return tasks.spawn(self._outcome(seq), name=f"trickle-get {self._name}")

    async def _outcome(self, seq: int) -> _Answer | ChannelError:
        """The answer, or the channel's end as a value: nobody may be waiting for a request made ahead."""
        try:
            return await self._ask(seq)
        except ChannelError as error:
            return error

    async def _ask(self, seq: int) -> _Answer:
        """Ask until the segment, or one after it, begins."""
        jumped = False
        while True:
            begun = self._clock()
            try:
                async with asyncio.timeout(self._ask_anew):
                    response = await self._http.get(
                        f"{self.url}/{seq}",
                        timeout=wire.NO_TOTAL_TIMEOUT,
                        read_bufsize=READ_BUFFER,
                        allow_redirects=False,
                    )
            except aiohttp.ClientError as error:
                await self._failed(error, begun)
                continue
            except TimeoutError:
                continue
            except OSError as error:
                await self._failed(error, begun)
                continue
            headers = response.headers
            if response.status == 404 or headers.get(wire.CLOSED) == wire.TERMINATED:
                response.close()
                raise ChannelClosed(f"{self._name}: the server closed the channel")
            if response.status == 200:
                self._retries.succeeded()
                real = wire.header_number(headers, wire.SEQ)
                return _Answer(seq if real is None else real, response)
            response.release()
            latest = wire.header_number(headers, wire.LATEST)
            if response.status == wire.NO_SUCH_SEGMENT and latest not in (None, seq) and not jumped:
                jumped = True
            else:
                jumped = False
                await self._failed(UnexpectedAnswer(f"status {response.status} to segment {seq}"), begun)
            seq = seq if latest is None else latest

    async def _failed(self, error: Exception, begun: float) -> None:
        delay = self._retries.failed(error, lived=self._clock() - begun)
        self._log.debug("subscribing again", error=describe(error))
        await asyncio.sleep(delay)

    def _count_gap(self, expected: int, seq: int) -> None:
        if 0 <= expected < seq:
            self.gaps += seq - expected
            if self._warnings.count():
                self._log.warning("segments missed", expected=expected, seq=seq)
