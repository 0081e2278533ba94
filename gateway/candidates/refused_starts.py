"""Bounds what is lost to those who take a first payment and then refuse the start. No I/O.

One refusal may be the fault of a publisher's parameters, so nobody is suspended for it: who refuses one
publisher again and again is passed over for that publisher, and who refuses several is to blame.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.candidates.suspension import backoff

FREE = 2
"""Refusals of one publisher after which nobody is passed over."""
FORGOTTEN_AFTER = 3600.0
"""Seconds after the last refusal, and the time passed over for it, until they count for nothing."""
SEVERAL = 3
"""Publishers that were refused without a picture in between: it is not their parameters."""
MAX_KNOWN = 1000
"""Addresses, and pairs of an address and a publisher, that are kept: the newest."""
ANYBODY = None
"""Stands for a publisher where the refusal has nothing to do with one."""


@dataclass(slots=True)
class _Row:
    """Refusals in a row; passed over until then, in monotonic seconds."""

    count: int = 0
    until: float = 0.0
    reason: str = ""


@dataclass(slots=True)
class _Refused:
    """The publishers that an address has refused since it had delivered so many seconds of pictures."""

    delivered: float
    publishers: set[str] = field(default_factory=set)


class RefusedStarts:
    """Starts that were paid and refused, by the address that was paid. `clock` is monotonic seconds.

    One publisher loses at most 9 first payments to an address within an hour, and then 2 an hour.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rows: dict[tuple[str, str | None], _Row] = {}
        self._refused: dict[str, _Refused] = {}

    def refused(self, address: str, publisher: str | None, reason: str, *, delivered: float) -> bool:
        """Note a refusal by who has delivered so many seconds of pictures. Whether it is to blame."""
        now, key = self._clock(), (address, publisher)
        row = self._rows.pop(key, None)
        if row is None or self._is_over(row, now):
            row = _Row()
        row.count += 1
        row.until = now + (backoff(row.count - FREE) if row.count > FREE else 0.0)
        row.reason = reason
        self._rows[key] = row
        if len(self._rows) > MAX_KNOWN:
            del self._rows[next(iter(self._rows))]
        if publisher is ANYBODY:
            return False
        refused = self._refused.pop(address, None)
        if refused is None or refused.delivered != delivered:
            refused = _Refused(delivered)
        if len(refused.publishers) < SEVERAL:
            refused.publishers.add(publisher)
        self._refused[address] = refused
        if len(self._refused) > MAX_KNOWN:
            del self._refused[next(iter(self._refused))]
        return len(refused.publishers) >= SEVERAL

    def has_refused(self, address: str, publisher: str | None) -> bool:
        """Whether it has refused this publisher not long ago."""
        now = self._clock()
        return any(not self._is_over(row, now) for row in self._rows_of(address, publisher))

    def why_not(self, address: str, publisher: str | None) -> str:
        """Why a stream of this publisher is not started there now; empty where it may be."""
        now = self._clock()
        for row in self._rows_of(address, publisher):
            if now < row.until:
                left = f"passed over for another {row.until - now:.0f} s"
                return f"it was paid and refused the last {row.count} starts, {left}: {row.reason}"
        return ""

    def _rows_of(self, address: str, publisher: str | None) -> list[_Row]:
        keys = ((address, publisher), (address, ANYBODY))
        return [self._rows[key] for key in keys if key in self._rows]

    @staticmethod
    def _is_over(row: _Row, now: float) -> bool:
        return now >= row.until + FORGOTTEN_AFTER
