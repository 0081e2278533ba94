"""Decoding times for a source that gives only presentation times, as RTP does."""

from __future__ import annotations

from bisect import insort

from gateway.media.frames import TICKS_PER_SECOND, AccessUnit
from gateway.media.sps import Sps

MAX_REORDER = 4
"""Limit of pictures by which the DTS lags; live encoders reorder by one or two."""

MAX_REORDER_SPAN = TICKS_PER_SECOND
"""Limit of a step back that is reordering; a longer one is a clock that restarted."""

_FIRST_STEP = 3_000
_JUMP = 10 * TICKS_PER_SECOND


class DecodeOrder:
    """Gives each picture of a stream a DTS that rises and is at most its PTS.

    A picture's DTS is the smallest PTS not yet used once as many later pictures are in as the
    stream may reorder by; without B-frames that is its own PTS, at once. How many comes from the SPS
    where it says so, else from what is seen. Nothing is held back: only the numbers lag.
    """

    def __init__(self) -> None:
        self.reordered = False
        """Whether a picture has come that is shown before one that came earlier: B-frames."""
        self._depth = 0
        self._pending: list[int] = []
        self._newest: int | None = None
        self._last_dts: int | None = None
        self._source_knows = False

    def dts(self, unit: AccessUnit, sps: Sps | None) -> int:
        """The DTS for `unit`, which is the next in decoding order."""
        newest = self._newest
        if newest is not None and not -MAX_REORDER_SPAN < unit.pts - newest <= _JUMP:
            self._forget()
            newest = None
        if unit.key:
            self._source_knows = unit.dts < unit.pts
            if sps is not None and sps.reorder_declared:
                self._depth = max(self._depth, min(sps.reorder_frames, MAX_REORDER))
        elif newest is not None and unit.pts < newest:
            self.reordered = True
            later = sum(pts > unit.pts for pts in self._pending)
            self._depth = min(max(self._depth, later, 1), MAX_REORDER)
        self._newest = unit.pts if newest is None else max(newest, unit.pts)
        if self._source_knows:
            return unit.dts
        return self._next(unit.pts)

    def _next(self, pts: int) -> int:
        insort(self._pending, pts)
        last = self._last_dts
        lacking = self._depth + 1 - len(self._pending)
        if lacking <= 0:
            dts = self._pending[-1 - self._depth]
            del self._pending[: -max(self._depth, 1)]
        elif last is None:
            dts = self._pending[0] - lacking * _FIRST_STEP
        else:
            dts = last + 1
        if last is not None:
            dts = max(dts, last + 1)
        self._last_dts = dts
        return dts

    def _forget(self) -> None:
        self._pending.clear()
        self._newest = self._last_dts = None
