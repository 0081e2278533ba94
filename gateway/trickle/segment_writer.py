"""A segment that is being published: its bytes that were written and not yet sent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable


class SendBuffer:
    """Counts the unsent bytes of all segments of one channel against a limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def fits(self, size: int) -> bool:
        return self.used + size <= self.limit


class SegmentWriter:
    """Takes a segment's bytes without waiting; its POST sends them as fast as the server takes them.

    `seq` is -1 until its POST starts. `delivered` is True once the server has taken the whole segment.
    """

    def __init__(self, buffer: SendBuffer, make_room: Callable[[SegmentWriter, int], bool]) -> None:
        self.seq = -1
        self.closed = False
        self.dropped = False
        self.started = False
        """Whether some of its bytes went out: then it cannot be sent again."""
        self.exhausted = False
        """Whether all of its bytes went out."""
        self.delivered = False
        self._buffer = buffer
        self._make_room = make_room
        self._chunks: deque[bytes] = deque()
        self._more: asyncio.Future[None] | None = None
        self._ended = asyncio.Event()

    @property
    def holds_bytes(self) -> bool:
        return bool(self._chunks)

    def write(self, data: bytes) -> bool:
        """Queue `data`. False when the segment is closed or was dropped to stay within the limit."""
        if self.closed or self.dropped:
            return False
        if not self._buffer.fits(len(data)) and not self._make_room(self, len(data)):
            return False
        if data:
            self._buffer.used += len(data)
            self._chunks.append(data)
            self._wake()
        return True

    def close(self) -> None:
        """Mark the segment as complete; unsent bytes still go out."""
        if not self.closed:
            self.closed = True
            self._wake()

    async def wait_delivered(self) -> bool:
        """Wait until its POST has ended; True when the server took the whole segment."""
        await self._ended.wait()
        return self.delivered

    def body(self) -> AsyncIterator[bytes]:
        """The body of one POST. Another may be made until bytes have gone out (`started`)."""
        return _Body(self)

    def drop(self) -> None:
        """Discard what is unsent and refuse further bytes."""
        self.dropped = True
        self._buffer.used -= sum(map(len, self._chunks))
        self._chunks.clear()
        self._make_room = _no_room  # breaks the cycle: the publisher holds this segment
        self.end()

    def end(self) -> None:
        """Note that its POST has ended."""
        self._ended.set()

    async def next_chunk(self) -> bytes:
        """The next bytes to send, waiting for them; empty at the segment's end."""
        while not self._chunks:
            if self.closed:
                self.exhausted = True
                return b""
            self._more = asyncio.get_running_loop().create_future()
            await self._more
        chunk = self._chunks.popleft()
        self._buffer.used -= len(chunk)
        self.started = True
        return chunk

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)


def _no_room(segment: SegmentWriter, size: int) -> bool:
    return False


class _Body:
    """A request body that sends the headers at once and each chunk when it is written.

    An iterator and not a generator: a cancelled request leaves no generator to be finalised.
    """

    def __init__(self, segment: SegmentWriter) -> None:
        self._segment = segment
        self._headers_sent = False

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        if not self._headers_sent:
            # aiohttp holds the headers back until the first chunk; an empty one releases them
            self._headers_sent = True
            return b""
        chunk = await self._segment.next_chunk()
        if not chunk:
            raise StopAsyncIteration
        return chunk
