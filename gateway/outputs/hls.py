"""A stream as HLS: the newest segments, in memory, and the playlist that names them.

Source: RFC 8216 and draft-pantos-hls-rfc8216bis (4.4: tags).
"""

from __future__ import annotations

import asyncio
import itertools
import math
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.outputs.fragments import Header, MovieFragment

LISTED = 6
"""Segments that the playlist names."""
KEPT = 12
"""Segments that are held, for players that are behind."""
MAX_BYTES = 64 * 1024 * 1024
"""Limit of bytes that are held of one stream."""
SHORTEST = 0.9
"""Seconds that a segment has at least: shorter groups of pictures share one."""


@dataclass(frozen=True)
class _Segment:
    name: str
    data: bytes
    seconds: float
    began: float
    """Seconds of the wall clock."""
    header: str
    """The name of the header that belongs to it."""


class HlsWindow:
    """Makes segments of fragments. Names are never used again, so that they can be cached for ever."""

    def __init__(self, *, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._id = secrets.token_hex(4)
        self._headers: dict[str, bytes] = {}
        self._codecs = ""
        self._segments: deque[_Segment] = deque()
        self._next = 0
        self._changes = 0
        """Headers whose segments are all gone: EXT-X-DISCONTINUITY-SEQUENCE."""
        self._longest = 1
        self._waiting: list[MovieFragment] = []
        self._header = ""
        self._more = asyncio.Event()

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(len(one.data) for one in self._segments) + sum(len(one.data) for one in self._waiting)

    @property
    def newest(self) -> int:
        """The number of the next segment: all before it are there, or were."""
        return self._next

    async def wait(self, number: int, timeout: float) -> bool:
        """Wait until segment `number` is there. False where it did not come in time."""
        try:
            async with asyncio.timeout(timeout):
                while self._next <= number:
                    await self._more.wait()
        except TimeoutError:
            return False
        return True

    def add(self, one: Header | MovieFragment) -> None:
        """Take what FFmpeg wrote next."""
        if isinstance(one, Header):
            self._waiting = []
            self._header = f"{self._id}-{self._next}-init.mp4"
            self._headers[self._header] = one.data
            self._codecs = one.codecs
            return
        self._waiting.append(one)
        seconds = sum(fragment.seconds for fragment in self._waiting)
        if seconds < SHORTEST:
            return
        data = b"".join(fragment.data for fragment in self._waiting)
        self._waiting = []
        name = f"{self._id}-{self._next}.m4s"
        self._segments.append(_Segment(name, data, seconds, self._wall() - seconds, self._header))
        self._next += 1
        self._longest = max(self._longest, math.ceil(seconds - 0.5))
        while len(self._segments) > KEPT or (self.size > MAX_BYTES and len(self._segments) > 1):
            self._drop()
        self._more.set()
        self._more = asyncio.Event()

    def _drop(self) -> None:
        gone = self._segments.popleft()
        if self._segments[0].header != gone.header:
            self._changes += 1
            self._headers.pop(gone.header, None)

    def file(self, name: str) -> bytes | None:
        """A header or segment by its name; None where it is not there."""
        if name in self._headers:
            return self._headers[name]
        return next((one.data for one in self._segments if one.name == name), None)

    def playlist(self) -> str:
        """The media playlist, the names of files below `hls/`; empty before the first segment."""
        listed = list(self._segments)[-LISTED:]
        if not listed:
            return ""
        before = [one.header for one in list(self._segments)[: len(self._segments) - len(listed) + 1]]
        changes = self._changes + sum(a != b for a, b in itertools.pairwise(before))
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:7",
            f"#EXT-X-TARGETDURATION:{self._longest}",
            f"#EXT-X-MEDIA-SEQUENCE:{self._next - len(listed)}",
            f"#EXT-X-DISCONTINUITY-SEQUENCE:{changes}",
            "#EXT-X-INDEPENDENT-SEGMENTS",
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,HOLD-BACK=" + f"{3 * self._longest:.1f}",
            f"# codecs={self._codecs}",
        ]
        header = ""
        for one in listed:
            if one.header != header:
                if header:
                    lines.append("#EXT-X-DISCONTINUITY")
                header = one.header
                lines.append(f'#EXT-X-MAP:URI="hls/{header}"')
            began = datetime.fromtimestamp(one.began, UTC).isoformat(timespec="milliseconds")
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{began.replace('+00:00', 'Z')}")
            lines.append(f"#EXTINF:{one.seconds:.3f},")
            lines.append(f"hls/{one.name}")
        return "\n".join(lines) + "\n"
