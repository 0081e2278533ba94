"""When a job is replaced, how often, and which candidates are left out. No I/O; the time is an argument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from gateway.reason import Ended, EndReason

WINDOW = 180.0
"""Seconds within which swaps are counted against the limit."""
# Another candidate would meet the same refusal: these end the stream, not the job.
ENDS_THE_STREAM = frozenset(
    {
        EndReason.SIGNER_REFUSED,
        EndReason.SIGNER_UNREACHABLE,
        EndReason.SPEND_LIMIT,
        EndReason.TIME_LIMIT,
        EndReason.INTERNAL_ERROR,
    }
)


@dataclass(frozen=True)
class Timing:
    """Intervals and time limits of a stream's supervisor, in seconds."""

    poll: float = 0.1
    """Between two checks for a candidate, or for a silent publisher's next frame."""
    patience: float = 5.0
    """Wait this long for a candidate: a process is restarted in less."""
    first_retry: float = 1.0
    """Before a candidate that did not start a job is tried again for that stream, doubled each time."""
    standby_poll: float = 1.0
    """Between two checks for a candidate that could stand by."""
    max_standby_pause: float = 60.0
    """At most, before another stands by in the place of one that failed: each costs a first payment."""
    output_check: float = 1.0
    """At most, between two checks that pictures come back."""


@dataclass(frozen=True)
class SwapPolicy:
    """The operator's limits. `output_timeout` is in seconds."""

    max_swaps: int = 3
    output_timeout: float = 30.0
    timing: Timing = Timing()


class SwapBudget:
    """Limits how many failed jobs are replaced: each replacement costs a first payment."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._spent: deque[tuple[float, Ended]] = deque()

    def spend(self, cause: Ended, now: float) -> None:
        """Count a swap for `cause`. Raises Ended, with the first cause, where it is one too many."""
        while self._spent and now - self._spent[0][0] > WINDOW:
            self._spent.popleft()
        if len(self._spent) >= self._limit:
            first = self._spent[0][1] if self._spent else cause
            raise Ended(
                EndReason.SWAPS_EXHAUSTED,
                f"{len(self._spent)} swaps within {WINDOW / 60:.0f} min did not help; "
                f"the first was for {first.reason}: {first.detail}",
            )
        self._spent.append((now, cause))

    def refund(self) -> None:
        """Take the last swap back: it did not cost anything."""
        self._spent.pop()


class Attempts:
    """Which candidates failed this stream, by their keys, and when each may be tried again for it.

    `first_retry` is in seconds, doubled by each failure.
    """

    def __init__(self, first_retry: float = Timing.first_retry) -> None:
        self._first_retry = first_retry
        self._failed: dict[str, tuple[int, float, str]] = {}
        self._left: dict[str, str] = {}

    def failed(self, key: str, detail: str, now: float) -> None:
        """It did not start a job."""
        times = self._failed[key][0] + 1 if key in self._failed else 1
        self._failed[key] = (times, now + self._first_retry * 2.0 ** (times - 1), detail)

    def left(self, key: str, detail: str) -> None:
        """It is not tried again for this stream."""
        self._left[key] = detail

    def succeeded(self) -> None:
        """A job is up: earlier failures no longer count."""
        self._failed.clear()

    def why_not(self, key: str, now: float, *, again: bool) -> str:
        """Why it is not tried now, empty where it may be; `again` allows a second try."""
        if key in self._left:
            return self._left[key]
        times, until, detail = self._failed.get(key, (0, 0.0, ""))
        return detail if times and (not again or now < until) else ""


class OutputWatch:
    """How long no picture has come back; only time in which the publisher sends counts."""

    def __init__(self, timeout: float, now: float) -> None:
        self._timeout = timeout
        self._since = now

    def came(self, now: float) -> None:
        """A picture came back."""
        self._since = now

    def overdue(self, now: float, input_age: float) -> float:
        """Seconds without a picture, once they are more than the time limit; 0 before."""
        if input_age > self._timeout / 2:
            self._since = now
        silence = now - self._since
        return silence if silence > self._timeout else 0.0
