"""Tells when all who showed pictures stop at the same moment. No I/O; the time is an argument.

That is the fault of a worker that they share, or our own, and so nobody's. Who has shown no picture before
takes no part in it.
"""

from __future__ import annotations

from gateway.candidates.suspension import LONGEST_BACKOFF, ONE_EVENT

FIRST_PAUSE = 0.5
"""Seconds between the first two starts that try whether pictures come again; doubled each time."""


NEVER = float("inf")


class Outage:
    """Who shows pictures, who has stopped, and whether that is an outage. Times are monotonic seconds.

    It begins when a job that showed pictures has failed and nobody else has shown one within ONE_EVENT, and
    ends with the next picture. Its members are those who stopped within ONE_EVENT of its begin, or later.
    """

    def __init__(self) -> None:
        self._showing: dict[str, float] = {}
        self._stopped: dict[str, float] = {}
        self._began = NEVER
        self._tries = 0
        self._next_try = 0.0

    def shows(self, key: str) -> bool:
        """Whether a job there has shown pictures, and none has failed since the last one."""
        return key in self._showing

    def picture(self, key: str, now: float) -> set[str]:
        """A picture came. Returns the members whose faults are nobody's: none where another one shows it."""
        self._showing[key] = now
        had_stopped = self._stopped.pop(key, None) is not None
        if self._began == NEVER:
            return set()
        excused = {key, *self._stopped} if had_stopped else set()
        self._stopped.clear()
        self._began, self._tries = NEVER, 0
        return excused

    def stopped(self, key: str, now: float) -> None:
        """A job there that had shown pictures failed."""
        self._showing.pop(key, None)
        self._stopped[key] = now

    def left(self, key: str) -> None:
        """The last job there is over."""
        self._showing.pop(key, None)

    def since(self, now: float) -> float:
        """When the outage began; infinity where there is none."""
        if self._stopped and self._began == NEVER:
            self._stopped = {key: at for key, at in self._stopped.items() if now - at < ONE_EVENT}
            somebody_shows = any(now - at < ONE_EVENT for at in self._showing.values())
            if self._stopped and not somebody_shows:
                self._began = self._next_try = now
        return self._began

    def includes(self, key: str, now: float) -> bool:
        """Whether this address is a member of an outage now."""
        return self.since(now) <= now and key in self._stopped

    def covers(self, key: str, fault_at: float, now: float) -> bool:
        """Whether a fault of that time says all that is to be said of this address in the outage of now."""
        return self.includes(key, now) or self.since(now) <= fault_at

    def try_again(self, now: float) -> None:
        """A start at a member begins: the next one waits, longer each time."""
        self._next_try = now + min(FIRST_PAUSE * 2.0 ** min(self._tries, 16), LONGEST_BACKOFF)
        self._tries += 1

    def seconds_to_try(self, now: float) -> float:
        """Seconds until the next start may begin at one of the members."""
        return max(0.0, self._next_try - now)
