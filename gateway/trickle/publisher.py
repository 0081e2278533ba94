"""Publisher of a trickle channel: streams each segment out while it is made."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import aiohttp
import structlog
from structlog.typing import FilteringBoundLogger

from gateway.aio.tasks import TaskGroup
from gateway.trickle import wire
from gateway.trickle.errors import ChannelClosed, ChannelError
from gateway.trickle.retries import RETRY_DELAY, Retries, UnexpectedAnswer, describe
from gateway.trickle.segment_writer import SegmentWriter, SendBuffer

MAX_BUFFER = 5_000_000
"""Limit of bytes written and not yet sent, over all segments of a channel."""
MAX_IN_FLIGHT = 3
"""Limit of segments begun whose POST has not ended; one more means that the server is too slow."""
DRAIN_TIMEOUT = 1.0
"""Seconds that `close` waits for segments in flight."""
DELETE_TIMEOUT = 2.0
NEXT_TIMEOUT = 5.0
"""Seconds for the answer to the question for the next segment's number."""


async def delete_channel(http: aiohttp.ClientSession, url: str) -> bool:
    """Tell the server that a channel or segment is over. Returns whether it answered."""
    try:
        async with asyncio.timeout(DELETE_TIMEOUT), http.delete(url, allow_redirects=False):
            return True
    except (aiohttp.ClientError, OSError) as error:
        structlog.get_logger("trickle").debug("delete failed", url=url, error=describe(error))
        return False


class TricklePublisher:
    """Publishes one channel. `run` does the I/O; the other methods are for the producer of the bytes.

    The POST of the next segment is always open before its first byte is there (preconnect), so a server
    that dies is noticed at once and a segment's first bytes need no round trip. Nothing waits for a slow
    server: what exceeds the limits is dropped by whole segments, oldest first, and counted. With `resume` it
    goes on with a channel that another process has published to: it asks for the next segment's number first.
    `name` stands for the URL in logs and errors where that is a secret.

    `http` must have a connector without a limit on connections (`limit=0`): each channel always holds at
    least one, and with aiohttp's default of 100 channels would wait for each other without an error.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        *,
        name: str = "",
        content_type: str = "video/MP2T",
        max_buffer: int = MAX_BUFFER,
        max_in_flight: int = MAX_IN_FLIGHT,
        retry_delay: float = RETRY_DELAY,
        resume: bool = False,
        clock: Callable[[], float] = time.monotonic,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.name = name or self.url
        self.segments = 0
        """Segments begun."""
        self.dropped = 0
        """Segments dropped before the server had taken all of them."""
        self._http = http
        self._content_type = content_type
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._log = (log or structlog.get_logger("trickle")).bind(channel=self.name)
        self._buffer = SendBuffer(max_buffer)
        self._retries = Retries(self.name, retry_delay)
        self._next_seq = 0
        self._resume = resume
        self._restarts_at: int | None = None
        """The segment whose POST tells the server that the publisher is another one now."""
        self._idle = self._new_segment()
        self._in_flight: deque[SegmentWriter] = deque()
        self._unposted: deque[SegmentWriter] = deque([self._idle])
        self._to_delete: deque[int] = deque()
        self._posts: dict[SegmentWriter, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._slow = asyncio.Event()
        self._closing = False
        self._over = False

    @property
    def slow(self) -> bool:
        """Whether a segment was dropped because the server is slow, and none was finished since."""
        return self._slow.is_set()

    async def wait_slow(self) -> None:
        """Wait until `slow`."""
        await self._slow.wait()

    @property
    def in_flight(self) -> int:
        """Segments begun whose POST has not ended, including the one being written."""
        return len(self._in_flight)

    @property
    def buffered(self) -> int:
        """Bytes written and not yet sent."""
        return self._buffer.used

    def open_segment(self) -> SegmentWriter:
        """End the segment being written and begin the next. Never waits, never fails."""
        if self._in_flight:
            self._in_flight[-1].close()
        segment, self._idle = self._idle, self._new_segment()
        self.segments += 1
        if self._over:
            segment.drop()
            return segment
        self._in_flight.append(segment)
        self._unposted.append(self._idle)
        while len(self._in_flight) > self._max_in_flight:
            self._drop_slow(self._in_flight[0])
        self._wake.set()
        return segment

    async def run(self) -> None:
        """Send until cancelled or closed.

        Raises ChannelClosed when the server ends the channel, ChannelLost when it cannot be reached.
        """
        try:
            if self._resume:
                self._next_seq = self._restarts_at = await self._ask_next()
            async with TaskGroup() as group:
                await self._start_requests(group)
                for post in self._posts.values():
                    post.cancel()
        except ChannelError:
            if not self._closing:
                raise
        finally:
            self._end()

    async def close(self, *, leave: bool = False) -> bool:
        """Finish the segments in flight, close the channel on the server, end `run`. Takes 3 s at most.

        With `leave` the channel stays open for another process to go on with. Returns whether the server
        answered, True where it was not asked.
        """
        if self._closing:
            return True
        self._closing = True
        for segment in self._in_flight:
            segment.close()
        try:
            if self._posts:
                with suppress(TimeoutError):
                    async with asyncio.timeout(DRAIN_TIMEOUT):
                        for segment in tuple(self._in_flight):
                            await segment.wait_delivered()
            return leave or await delete_channel(self._http, self.url)
        finally:
            self._over = True
            self._wake.set()

    async def _start_requests(self, group: TaskGroup) -> None:
        while not self._over:
            while self._unposted:
                segment = self._unposted.popleft()
                if not segment.dropped:
                    self._number(segment)
                    post = group.create_task(self._post(segment), name=f"trickle-post {self.name}")
                    post.add_done_callback(partial(self._post_ended, segment))
                    self._posts[segment] = post
            while self._to_delete:
                url = f"{self.url}/{self._to_delete.popleft()}"
                group.create_task(delete_channel(self._http, url), name=f"trickle-delete {self.name}")
            self._wake.clear()
            await self._wake.wait()

    async def _post(self, segment: SegmentWriter) -> None:
        """Send one segment, repeat it while that is allowed, else drop it."""
        while True:
            begun = self._clock()
            try:
                await self._attempt(segment)
            except (aiohttp.ClientError, OSError, UnexpectedAnswer) as error:
                if not self._may_repeat(segment):
                    self._drop(segment, describe(error))
                    return
                delay = self._retries.delay
                if segment is self._idle:
                    # the idle segment is always there, so each round of failures counts once
                    delay = self._retries.failed(error, lived=self._clock() - begun)
                await asyncio.sleep(delay)
                if not self._may_repeat(segment):
                    self._drop(segment, describe(error))
                    return
            else:
                self._retries.succeeded()
                segment.delivered = True
                self._slow.clear()
                return

    def _post_ended(self, segment: SegmentWriter, post: asyncio.Task[None]) -> None:
        del self._posts[segment]
        self._forget(segment)
        self._discard(segment)
        segment.end()

    async def _attempt(self, segment: SegmentWriter) -> None:
        """One POST. Raises UnexpectedAnswer where the server did not take the whole segment."""
        request = self._http.post(
            f"{self.url}/{segment.seq}",
            data=segment.body(),
            headers=self._headers(segment),
            timeout=wire.NO_TOTAL_TIMEOUT,
            allow_redirects=False,
        )
        async with request as response:
            status, headers = response.status, response.headers
            if not segment.exhausted:
                response.close()
        if status == 404 or headers.get(wire.CLOSED) == wire.TERMINATED:
            raise ChannelClosed(f"{self.name}: the server closed the channel")
        if status == wire.NO_SUCH_SEGMENT:
            self._next_seq = max(self._next_seq, wire.header_number(headers, wire.LATEST) or 0)
            if self._may_repeat(segment):
                self._number(segment)
        if status != 200 or not segment.exhausted:
            raise UnexpectedAnswer(f"status {status} to segment {segment.seq}")

    async def _ask_next(self) -> int:
        """The number of the next segment. Raises ChannelClosed or ChannelLost."""
        while not self._over:
            try:
                async with (
                    asyncio.timeout(NEXT_TIMEOUT),
                    self._http.get(f"{self.url}/next", allow_redirects=False) as response,
                ):
                    status, headers = response.status, response.headers
            except (aiohttp.ClientError, OSError) as error:  # a TimeoutError too
                await asyncio.sleep(self._retries.failed(error))
                continue
            if status == 404 or headers.get(wire.CLOSED) == wire.TERMINATED:
                raise ChannelClosed(f"{self.name}: the server closed the channel")
            latest = wire.header_number(headers, wire.LATEST)
            if status == 200 and latest is not None:
                self._retries.succeeded()
                return latest
            why = UnexpectedAnswer(f"status {status} to the question for the next segment")
            await asyncio.sleep(self._retries.failed(why))
        return 0

    def _headers(self, segment: SegmentWriter) -> dict[str, str]:
        resets = {wire.RESET: "1"} if segment.seq == self._restarts_at else {}
        return {"Content-Type": self._content_type, **resets}

    def _number(self, segment: SegmentWriter) -> None:
        segment.seq = self._next_seq
        self._next_seq += 1

    def _may_repeat(self, segment: SegmentWriter) -> bool:
        """Whether none of its bytes went out and the next segment has not begun."""
        newest = segment is self._idle or (bool(self._in_flight) and segment is self._in_flight[-1])
        return newest and not segment.started

    def _make_room(self, writing: SegmentWriter, size: int) -> bool:
        """Drop the oldest segments that hold bytes until `size` more fit; False when `writing` went too."""
        for segment in tuple(self._in_flight):
            if self._buffer.fits(size):
                return True
            if segment.holds_bytes or segment is writing:
                self._drop_slow(segment)
        return not writing.dropped

    def _drop_slow(self, segment: SegmentWriter) -> None:
        self._slow.set()
        post = self._posts.get(segment)
        self._drop(segment, "the server is too slow")
        if post is not None:
            post.cancel()

    def _drop(self, segment: SegmentWriter, why: str) -> None:
        self._log.warning("segment dropped", seq=segment.seq, reason=why)
        self.dropped += 1
        self._forget(segment)
        segment.drop()
        if segment.seq >= 0:
            self._to_delete.append(segment.seq)
            self._wake.set()

    def _new_segment(self) -> SegmentWriter:
        return SegmentWriter(self._buffer, self._make_room)

    def _forget(self, segment: SegmentWriter) -> None:
        with suppress(ValueError):
            self._in_flight.remove(segment)

    def _discard(self, segment: SegmentWriter) -> None:
        """Drop what is unsent of it."""
        if not segment.delivered:
            # The segment being written ends with the channel; only a complete one counts as dropped.
            self.dropped += segment.closed and not segment.dropped
            segment.drop()

    def _end(self) -> None:
        """Drop everything that is held: nothing is sent any more."""
        self._over = True
        for segment in (*self._in_flight, self._idle):
            self._discard(segment)
        self._in_flight.clear()
        self._unposted.clear()
        self._to_delete.clear()
