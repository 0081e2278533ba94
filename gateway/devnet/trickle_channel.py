"""A trickle channel on the server: its newest segments and the readers that wait. No HTTP here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

RETAINED = 5
"""Segments kept; a reader that is still in an older one is cut off."""
NEXT = -1
NEWEST = -2


class NoSuchSegment(Exception):
    """The channel exists, that segment does not, now or later."""


class Closed(Exception):
    """The channel has ended."""


class Cut(Exception):
    """The reader was too slow: its segment is not kept any more."""


class Watched:
    """Something whose changes can be waited for."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    async def changed(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    @property
    def awaited(self) -> bool:
        """Whether anybody waits for a change."""
        return bool(self._waiters)

    def notify(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


class StoredSegment(Watched):
    """One segment's bytes, kept once however many read them."""

    def __init__(self, seq: int) -> None:
        super().__init__()
        self.seq = seq
        self.size = 0
        self.ended = False
        self.evicted = False
        self.on_end: Callable[[], None] | None = None
        """Called once when something other than its writer ends the segment."""
        self.on_evict: set[Callable[[], None]] = set()
        self._chunks: list[bytes] = []

    @property
    def started(self) -> bool:
        return bool(self._chunks)

    def append(self, data: bytes) -> None:
        self._chunks.append(data)
        self.size += len(data)
        self.notify()

    def end(self) -> None:
        """No more bytes follow."""
        if not self.ended:
            self.ended = True
            self.notify()
            if self.on_end is not None:
                self.on_end()

    def evict(self) -> None:
        """Stop keeping it: its readers are cut off."""
        self.end()
        self.evicted = True
        self.notify()
        for cut in tuple(self.on_evict):
            cut()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Its bytes from the beginning, each chunk when it is written. Raises Cut."""
        position = 0
        while True:
            if self.evicted:
                raise Cut
            if position < len(self._chunks):
                position += 1
                yield self._chunks[position - 1]
            elif self.ended:
                return
            else:
                await self.changed()


class Channel(Watched):
    """Segments by number. A segment exists from its POST's start; with its first byte it uses its number."""

    def __init__(
        self,
        name: str,
        *,
        content_type: str,
        now: float,
        on_segment: Callable[[int], object] | None = None,
        on_close: Callable[[], object] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.content_type = content_type
        self.closed = False
        self.next_seq = 0
        """The next segment to be written."""
        self.last_segment = now
        """When the newest segment began, in seconds of the caller's clock."""
        self._on_segment = on_segment
        self._on_close = on_close
        self._segments: dict[int, StoredSegment] = {}
        self._newest: int | None = None

    @property
    def kept(self) -> list[int]:
        """The numbers of the segments that are there to be read."""
        return [seq for seq in self._segments if seq < self.next_seq]

    def open(self, seq: int) -> StoredSegment:
        """The segment for a POST to fill. Raises NoSuchSegment for a number that is used or far ahead.

        It replaces an earlier POST for the same number without bytes: the sender lost its connection.
        """
        present = self._segments.get(seq)
        if not self.next_seq <= seq < self.next_seq + RETAINED or (present is not None and present.started):
            raise NoSuchSegment
        segment = self._segments[seq] = StoredSegment(seq)
        if present is not None:
            present.end()
        return segment

    def write(self, segment: StoredSegment, data: bytes, now: float) -> None:
        """Add bytes to an open segment; the first ones make it the newest."""
        first = not segment.started
        segment.append(data)
        if first:
            self._newest = segment.seq
            self._use_number(segment.seq, now)
            if self._on_segment is not None:
                self._on_segment(segment.seq)

    def finish(self, segment: StoredSegment, now: float) -> None:
        """The POST ended normally: its number is used, with or without bytes."""
        if self._segments.get(segment.seq) is segment:
            self._use_number(segment.seq, now)
        segment.end()

    def abandon(self, segment: StoredSegment) -> None:
        """The POST broke off: with bytes the segment ends, without bytes its number stays free."""
        if not segment.started and self._segments.get(segment.seq) is segment:
            del self._segments[segment.seq]
        segment.end()
        self.notify()

    def delete(self, seq: int, now: float) -> bool:
        """End a segment that its publisher deleted. False where there is none of that number."""
        segment = self._segments.get(seq)
        if segment is None:
            return False
        self.finish(segment, now)
        return True

    def restart(self, seq: int, now: float) -> None:
        """End all segments before `seq`: the publisher restarted there."""
        for segment in tuple(self._segments.values()):
            if segment.seq < seq and not segment.ended:
                self.finish(segment, now)

    def resolve(self, seq: int) -> int:
        """The segment number for NEXT, NEWEST or a number."""
        if seq == NEWEST and self._newest is not None:
            return self._newest
        return self.next_seq if seq in (NEXT, NEWEST) else seq

    async def find(self, seq: int) -> StoredSegment:
        """The segment of that number once it has bytes or has ended.

        Raises NoSuchSegment, or Closed when the channel ends before that.
        """
        while not self.closed:
            segment = self._segments.get(seq)
            # Before the first segment, readers may ask for the one after it too.
            newest = max(self.next_seq, 1)
            if seq > newest or seq < 0 or (seq < self.next_seq and segment is None):
                raise NoSuchSegment
            if segment is not None and (segment.started or segment.ended):
                return segment
            await self.changed()
        raise Closed

    def close(self) -> None:
        """End all segments and wake all readers."""
        if self.closed:
            return
        self.closed = True
        for segment in tuple(self._segments.values()):
            segment.end()
        self.notify()
        if self._on_close is not None:
            self._on_close()

    def _use_number(self, seq: int, now: float) -> None:
        self.last_segment = now
        self.next_seq = max(self.next_seq, seq + 1)
        for old in [number for number in self._segments if number < self.next_seq - RETAINED]:
            self._segments.pop(old).evict()
        self.notify()
