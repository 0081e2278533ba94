"""Who is left alone for a while after a fault or for want of room, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

CAPACITY_SKIP = 15.0
"""Seconds for which an orchestrator without capacity is passed over."""
FIRST_BACKOFF = 30.0
LONGEST_BACKOFF = 1800.0
"""Seconds: the back-off of a first fault, doubled by each further one, and its limit."""

ONE_EVENT = 5.0
"""Seconds within which faults are one: whoever dies fails all its streams."""


@dataclass(frozen=True, slots=True)
class Suspension:
    """Set aside until `until` (monotonic seconds). `faults` in a row led here, 0 for want of capacity."""

    until: float
    reason: str
    faults: int

    @property
    def is_fault(self) -> bool:
        return self.faults > 0

    def seconds_left(self, now: float) -> float:
        return max(0.0, self.until - now)

    def json(self, now: float) -> dict[str, str | float]:
        return {"reason": self.reason, "seconds_left": round(self.seconds_left(now), 1)}


def backoff(faults: int) -> float:
    """Seconds to stay away after `faults` faults in a row: 30 s, 1 min, 2 min .. 30 min."""
    return min(FIRST_BACKOFF * 2.0 ** min(faults - 1, 16), LONGEST_BACKOFF)


class Suspensions:
    """Who is set aside, by address. A row of faults ends with half an hour of good conduct."""

    def __init__(self) -> None:
        self._by_addr: dict[str, Suspension] = {}

    def fault(self, addr: str, reason: str, now: float) -> Suspension:
        """Note a fault: the next back-off is twice the last one. What many feel at once counts once."""
        last = self._by_addr.get(addr)
        if last is not None and last.is_fault and now - (last.until - backoff(last.faults)) < ONE_EVENT:
            return last
        in_a_row = last is not None and now < last.until + LONGEST_BACKOFF
        faults = (last.faults if last is not None and in_a_row else 0) + 1
        return self._set(addr, Suspension(now + backoff(faults), reason, faults))

    def no_capacity(self, addr: str, reason: str, now: float) -> Suspension:
        """Note that there was no room: a short skip, which never shortens a back-off."""
        last = self.active(addr, now)
        if last is not None and last.is_fault:
            return last
        return self._set(addr, Suspension(now + CAPACITY_SKIP, reason, 0))

    def room_again(self, addr: str) -> None:
        """End a skip for want of room; a back-off stays."""
        last = self._by_addr.get(addr)
        if last is not None and not last.is_fault:
            del self._by_addr[addr]

    def active(self, addr: str, now: float) -> Suspension | None:
        suspension = self._by_addr.get(addr)
        return suspension if suspension is not None and now < suspension.until else None

    def forget(self, addr: str) -> None:
        self._by_addr.pop(addr, None)

    def _set(self, addr: str, suspension: Suspension) -> Suspension:
        self._by_addr[addr] = suspension
        return suspension
