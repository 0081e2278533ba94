"""For how long a candidate is passed over after a fault, or while it has no room."""

from __future__ import annotations

from dataclasses import dataclass

CAPACITY_SKIP = 15.0
"""Seconds for which an orchestrator without capacity is passed over."""
FIRST_BACKOFF = 30.0
LONGEST_BACKOFF = 1800.0
"""Seconds: the back-off of a first fault, doubled by each further one, and its usual limit."""

ONE_EVENT = 5.0
"""Seconds within which faults count as one: an orchestrator that ends fails all its streams."""


@dataclass(frozen=True, slots=True)
class Suspension:
    """Passed over until `until` (monotonic seconds), after `faults` in a row; 0 means no capacity."""

    until: float
    reason: str
    faults: int
    forgivable: bool = True
    """Whether it is ignored where nobody else is left."""
    since: float = float("-inf")

    @property
    def is_fault(self) -> bool:
        return self.faults > 0

    def seconds_left(self, now: float) -> float:
        return max(0.0, self.until - now)

    def json(self, now: float) -> dict[str, str | float]:
        return {"reason": self.reason, "seconds_left": round(self.seconds_left(now), 1)}


def backoff(faults: int, longest: float = LONGEST_BACKOFF) -> float:
    """Seconds to stay away after `faults` faults in a row: 30 s, 1 min, 2 min .. `longest`."""
    return min(FIRST_BACKOFF * 2.0 ** min(faults - 1, 16), longest)


class SuspensionState:
    """One candidate's faults and the suspension that follows.

    The row ends once it was used again for as long as the longest back-off without a fault. `fault` is what
    an earlier run of the gateway knew.
    """

    def __init__(self, fault: Suspension | None = None) -> None:
        self.last_fault = fault
        self._skip: Suspension | None = None

    def fault(
        self, reason: str, now: float, *, took_pay: bool = False, longest: float = LONGEST_BACKOFF
    ) -> Suspension:
        """Note a fault: each doubles the back-off, up to `longest` seconds.

        Faults of many streams at once count as one. Where it `took_pay` and showed nothing each counts, and
        is not forgiven where nobody else is left.
        """
        last = self.last_fault
        if last is not None and now - last.since < ONE_EVENT and not took_pay:
            return last
        in_a_row = last is not None and now < last.until + longest
        faults = (last.faults if last is not None and in_a_row else 0) + 1
        still_held = last is not None and now < last.until and not last.forgivable
        self.last_fault = Suspension(
            now + backoff(faults, longest), reason, faults, forgivable=not (took_pay or still_held), since=now
        )
        return self.last_fault

    def forgive(self, reason: str) -> None:
        """Take a fault back that was none; it stays where another came before or after it."""
        if self.last_fault is not None and (self.last_fault.faults, self.last_fault.reason) == (1, reason):
            self.last_fault = None

    def no_capacity(self, reason: str, now: float) -> Suspension:
        """Note that there was no room: a short suspension, which never shortens a back-off."""
        self._skip = Suspension(now + CAPACITY_SKIP, reason, 0, since=now)
        return self.active(now) or self._skip

    def room_again(self) -> None:
        """End a suspension for want of room; one for a fault stays."""
        self._skip = None

    def active(self, now: float) -> Suspension | None:
        """The suspension that holds at `now`; one for a fault comes first."""
        for one in (self.last_fault, self._skip):
            if one is not None and now < one.until:
                return one
        return None
