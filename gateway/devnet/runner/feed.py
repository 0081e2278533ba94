"""Queue of input segments from the event loop to the thread that decodes them, bounded in bytes."""

from __future__ import annotations

import threading
from collections import deque

MAX_HELD = 8_000_000
"""Limit of bytes that wait to be read; what exceeds it is dropped up to the next segment."""


class FeedSegment:
    """One input segment: the loop writes it, the thread reads it as a blocking file."""

    def __init__(self, feed: Feed) -> None:
        self.damaged = False
        """Whether part of it was dropped or not received."""
        self._feed = feed
        self._chunks: deque[bytes] = deque()
        self._ended = False

    def write(self, data: bytes) -> None:
        """Add bytes; beyond the feed's limit the rest of the segment is dropped."""
        with self._feed.changed:
            if self._ended:
                return
            if self._feed.held + len(data) > self._feed.limit:
                self.damaged = self._ended = True
                self._feed.dropped += 1
            else:
                self._chunks.append(data)
                self._feed.held += len(data)
            self._feed.changed.notify_all()

    def end(self, *, truncated: bool = False) -> None:
        """No more bytes follow."""
        with self._feed.changed:
            self._ended = True
            self.damaged = self.damaged or truncated
            self._feed.changed.notify_all()

    def read(self, size: int) -> bytes:
        """Wait for bytes and return at most `size` of them; empty at the end. PyAV reads a file by this."""
        with self._feed.changed:
            while not self._chunks:
                if self._ended or self._feed.ended:
                    return b""
                self._feed.changed.wait()
            chunk = self._chunks.popleft()
            if len(chunk) > size:
                self._chunks.appendleft(chunk[size:])
                chunk = chunk[:size]
            self._feed.held -= len(chunk)
            return chunk

    def discard(self) -> None:
        """Drop its unread bytes and those still to come."""
        with self._feed.changed:
            self._ended = True
            self._feed.held -= sum(map(len, self._chunks))
            self._chunks.clear()


class Feed:
    """A job's input segments in order, of which `limit` bytes may wait to be read."""

    def __init__(self, limit: int = MAX_HELD) -> None:
        self.limit = limit
        self.changed = threading.Condition()
        self.held = 0
        self.dropped = 0
        """Count of segments cut short because the thread was too slow."""
        self.ended = False
        self._segments: deque[FeedSegment] = deque()

    def open_segment(self) -> FeedSegment:
        segment = FeedSegment(self)
        with self.changed:
            self._segments.append(segment)
            self.changed.notify_all()
        return segment

    def next_segment(self) -> FeedSegment | None:
        """Wait for the next segment to begin; None when the feed has ended."""
        with self.changed:
            while not self._segments:
                if self.ended:
                    return None
                self.changed.wait()
            return self._segments.popleft()

    def end(self) -> None:
        """No more segments follow; readers still get what is there."""
        with self.changed:
            self.ended = True
            self.changed.notify_all()
