"""The pictures since the last key frame, held for later jobs and viewers."""

from __future__ import annotations

from typing import Generic, TypeVar

from gateway.media.frames import AccessUnit, Frame, OpusPacket

MAX_GOP_BYTES = 8 * 1024 * 1024
MAX_GOP_ENTRIES = 2_000
"""With sound at 50 packets a second, a key frame every 20 s still fits."""

T = TypeVar("T")


class HeldGop(Generic[T]):
    """A bounded buffer for one group of pictures, key frame first, in whatever form they are held.

    A group that outgrows a bound is let go altogether, as its later part is of no use by itself;
    holding begins again with the next key frame. `overflows` counts that.
    """

    def __init__(self, *, max_bytes: int = MAX_GOP_BYTES, max_entries: int = MAX_GOP_ENTRIES) -> None:
        self.size = 0
        """Bytes held."""
        self.overflows = 0
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._entries: list[T] = []

    def __len__(self) -> int:
        return len(self._entries)

    def begin(self, entry: T, size: int) -> None:
        """A key frame of `size` bytes: it replaces what is held."""
        self._entries = [entry]
        self.size = size
        self._bound()

    def add(self, entry: T, size: int) -> None:
        """What follows the key frame; ignored where none is held."""
        if self._entries:
            self._entries.append(entry)
            self.size += size
            self._bound()

    def clear(self) -> None:
        """Drop everything until the next key frame."""
        self._entries = []
        self.size = 0

    def entries(self) -> list[T]:
        """A copy of what is held, key frame first; empty where there is none."""
        return self._entries.copy()

    def _bound(self) -> None:
        if self.size > self._max_bytes or len(self._entries) > self._max_entries:
            self.overflows += 1
            self.clear()


class GopBuffer:
    """The frames of an incoming stream since its last key frame: what a new job starts with."""

    def __init__(self, *, max_bytes: int = MAX_GOP_BYTES, max_entries: int = MAX_GOP_ENTRIES) -> None:
        self._gop: HeldGop[Frame] = HeldGop(max_bytes=max_bytes, max_entries=max_entries)

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._gop.size

    @property
    def overflows(self) -> int:
        """How often a group of pictures was too large to be held."""
        return self._gop.overflows

    @property
    def holds_audio(self) -> bool:
        """Whether sound is among what is held."""
        return any(isinstance(frame, OpusPacket) for frame in self._gop.entries())

    def __len__(self) -> int:
        return len(self._gop)

    def push(self, frame: Frame) -> None:
        """Hold `frame`; a key frame replaces what was held before."""
        if not isinstance(frame, AccessUnit):
            self._gop.add(frame, len(frame.data))
            return
        size = sum(map(len, frame.nals))
        if frame.key:
            self._gop.begin(frame, size)
        else:
            self._gop.add(frame, size)

    def frames(self) -> list[Frame]:
        """The held frames in order, key frame first; empty where there is none to start with."""
        return self._gop.entries()

    def clear(self) -> None:
        """Hold nothing until the next key frame."""
        self._gop.clear()
