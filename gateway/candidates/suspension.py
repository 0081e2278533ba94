"""For how long a candidate is passed over after a fault, or while it has no room."""

from __future__ import annotations

from dataclasses import dataclass

CAPACITY_SKIP = 15.0
"""Seconds for which an orchestrator without capacity is passed over."""
FIRST_BACKOFF = 30.0
LONGEST_BACKOFF = 1800.0
"""Seconds: the back-off of a first fault, doubled by each further one, and its limit."""

ONE_EVENT = 5.0
"""Seconds within which faults count as one: an orchestrator that ends fails all its streams."""


@dataclass(frozen=True, slots=True)
class Suspension:
    """Passed over until `until` (monotonic seconds), after `faults` in a row; 0 means no capacity."""

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


class SuspensionState:
    """One candidate's faults and the suspension that follows. Half an hour without a fault ends the row."""

    def __init__(self) -> None:
        self._last: Suspension | None = None

    def fault(self, reason: str, now: float) -> Suspension:
        """Note a fault: each doubles the back-off. Faults of many streams at once count as one."""
        last = self._last
        if last is not None and last.is_fault and now - (last.until - backoff(last.faults)) < ONE_EVENT:
            return last
        in_a_row = last is not None and now < last.until + LONGEST_BACKOFF
        faults = (last.faults if last is not None and in_a_row else 0) + 1
        self._last = Suspension(now + backoff(faults), reason, faults)
        return self._last

    def forgive(self, reason: str) -> None:
        """Take a fault back that was none; it stays where another came before or after it."""
        if self._last is not None and (self._last.faults, self._last.reason) == (1, reason):
            self._last = None

    def no_capacity(self, reason: str, now: float) -> Suspension:
        """Note that there was no room: a short suspension, which never shortens a back-off."""
        active = self.active(now)
        if active is not None and active.is_fault:
            return active
        self._last = Suspension(now + CAPACITY_SKIP, reason, 0)
        return self._last

    def room_again(self) -> None:
        """End a suspension for want of room; one for a fault stays."""
        if self._last is not None and not self._last.is_fault:
            self._last = None

    def active(self, now: float) -> Suspension | None:
        """The suspension that holds at `now`."""
        return self._last if self._last is not None and now < self._last.until else None
