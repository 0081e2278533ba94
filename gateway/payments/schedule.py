"""When a payment session acts: at the ticks of its interval, and later after failures."""

from __future__ import annotations

from gateway.payments.timebase import NANOSECONDS

FIRST_BACKOFF = NANOSECONDS // 4
"""Nanoseconds before the first retry; doubled for each further one, up to LONGEST_BACKOFF."""
LONGEST_BACKOFF = 4 * NANOSECONDS
SHORTEST_INTERVAL = NANOSECONDS // 10


class Schedule:
    """One session's times and waits, in nanoseconds of a monotonic clock."""

    def __init__(
        self, interval: int, first_backoff: int = FIRST_BACKOFF, longest_backoff: int = LONGEST_BACKOFF
    ) -> None:
        self.interval = interval
        self.due = 0
        """When the next payment is due, once the job runs."""
        self.retry_at: int | None = None
        """When to try again; None where nothing failed."""
        self.failures = 0
        """Failed tries in a row."""
        self._first_backoff = first_backoff
        self._longest_backoff = longest_backoff

    def start(self, now: int, bought: int) -> None:
        """The job runs, and its first payment buys `bought` nanoseconds.

        The interval shrinks to half of those where it is longer: a credit is renewed before it is used up.
        """
        self.due = now
        self.interval = min(self.interval, max(bought // 2, SHORTEST_INTERVAL))

    def advance(self, billed_until: int) -> None:
        """Set the next payment to the first tick after that time: missed ticks are one payment."""
        self.due += ((billed_until - self.due) // self.interval + 1) * self.interval

    def back_off(self, now: int) -> None:
        """Something failed: wait before the next try."""
        self.retry_at = now + min(self._longest_backoff, self._first_backoff << self.failures)
        self.failures += 1

    def succeed(self) -> None:
        """Something went well: the next failure is the first again."""
        self.failures = 0
        self.retry_at = None
