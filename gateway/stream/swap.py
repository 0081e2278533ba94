"""When a job is replaced, how often, and which candidates are left out. No I/O; the time is an argument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from gateway.reason import Ended, EndReason, NoRoom

STOOD_STILL = 1.0
"""Seconds, at least, without a look at what came back: this process was halted."""
WINDOW = 180.0
"""Seconds within which swaps are counted against the limit."""
DRIP_SECONDS = 10.0
MIN_SHOWN = 2
MIN_GOT = 100
"""In so many seconds a job that gets MIN_GOT pictures has to give MIN_SHOWN."""
DRIP_FROM = 60.0
"""Seconds after its first picture for which a job may give fewer: a model may be loading."""
LONGEST_PAUSE = 4.0
"""Seconds between two first payments without a picture at most: less than a stream waits for a candidate."""
# Another candidate would meet the same refusal: these end the stream, not the job.
ENDS_THE_STREAM = frozenset(
    {
        EndReason.SIGNER_REFUSED,
        EndReason.SIGNER_UNREACHABLE,
        EndReason.SPEND_LIMIT,
        EndReason.TIME_LIMIT,
        EndReason.TAKEN_OVER,
        EndReason.INTERNAL_ERROR,
    }
)


@dataclass(frozen=True)
class SwapTiming:
    """Intervals and time limits of a stream's supervisor, in seconds."""

    poll: float = 0.1
    """Between two checks for a candidate, or for a silent publisher's next frame."""
    patience: float = 5.0
    """Wait this long for a candidate: a process is restarted in less."""
    turn: float = 30.0
    """Wait this long for a candidate that may have only so many starts at once."""
    signer: float = 30.0
    """Wait this long for a signer that does not answer, once the stream was live: it is restarted in less."""
    first_retry: float = 1.0
    """Before a candidate that did not start a job is tried again for that stream, doubled each time."""
    first_pause: float = 1.0
    """Between two first payments of a live stream that brought no picture, doubled each time: a worker is
    started again while the few that are allowed last."""
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
    max_paid_starts: int = 3
    """First payments in a row that bring no picture."""
    output_timeout: float = 30.0
    timing: SwapTiming = SwapTiming()


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
        if self._spent:  # a move that the operator asked for was not counted
            self._spent.pop()


class StartsWithoutPicture:
    """Limits the first payments in a row that brought no picture, and spaces them out.

    What fails within milliseconds, such as a worker that is started again, would use them all up at once.
    `first_pause` is in seconds, doubled by each such payment.
    """

    def __init__(self, limit: int, first_pause: float = SwapTiming.first_pause) -> None:
        self._limit = limit
        self._first_pause = first_pause
        self._reasons: list[str] = []
        self._pause_until = float("-inf")

    def count(self, now: float, failure: Ended, *, live: bool, paid: bool) -> None:
        """A job is over: `live` if it showed a picture, `paid` if a first payment was signed for it.

        A payment that found no room is kept for the next start there: nothing waits for it.
        """
        if live:
            self._reasons.clear()
        elif paid:
            pause = self._first_pause * 2.0 ** len(self._reasons)
            if not isinstance(failure, NoRoom):
                self._pause_until = now + min(pause, LONGEST_PAUSE)
            self._reasons.append(failure.detail)

    def pauses(self, now: float) -> bool:
        """Whether the next first payment is to wait."""
        return bool(self._reasons) and now < self._pause_until

    @property
    def refusal(self) -> str:
        """Why there is no further first payment; empty where there may be one."""
        paid = len(self._reasons)
        if paid < self._limit:
            return ""
        return f"{paid} first payments in a row brought no picture: {'; '.join(self._reasons)}"


class Attempts:
    """Which candidates failed this stream, by their keys, and when each may be tried again for it.

    `first_retry` is in seconds, doubled by each failure.
    """

    def __init__(self, first_retry: float = SwapTiming.first_retry) -> None:
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
    """How long no picture has come back; only time counts in which the publisher sends and this process runs.

    `overdue` is called at least ten times in the time limit: where it is not for half of that, and for
    STOOD_STILL, the process was halted, and nobody knows what would have come meanwhile.
    """

    def __init__(self, timeout: float, now: float) -> None:
        self._timeout = timeout
        self._since = now
        self._looked = now

    def came(self, now: float) -> None:
        """A picture came back."""
        self._since = now

    def overdue(self, now: float, input_age: float) -> float:
        """Seconds without a picture, once they are more than the time limit; 0 before."""
        stood_still = now - self._looked > max(self._timeout / 2, STOOD_STILL)
        self._looked = now
        if stood_still or input_age > self._timeout / 2:
            self._since = now
        silence = now - self._since
        return silence if silence > self._timeout else 0.0


class DripWatch:
    """Finds a job that gives far fewer pictures than it gets, without being silent for the whole time limit.

    Rates are taken over the time limit for output, and over DRIP_SECONDS at least.
    """

    def __init__(self, output_timeout: float) -> None:
        self.got = 0
        """Pictures that were handed to the job."""
        self.shown = 0
        """Pictures that came back."""
        self._span = max(output_timeout, DRIP_SECONDS)
        self._exempt_until: float | None = None
        self._samples: deque[tuple[float, int, int]] = deque()

    def pause(self) -> None:
        """No picture is expected before the next call of `too_few`."""
        self._samples.clear()

    def too_few(self, now: float) -> str:
        """Why the job is to be left; empty where it is not. To be called about once a second."""
        if not self.shown:
            return ""
        if self._exempt_until is None:
            self._exempt_until = now + DRIP_FROM
        since, got, shown = now, self.got, self.shown
        while self._samples and now - self._samples[0][0] >= self._span:
            since, got, shown = self._samples.popleft()
        self._samples.append((now, self.got, self.shown))
        spans = self._span / DRIP_SECONDS
        if self.shown - self._samples[0][2] >= MIN_SHOWN * spans:
            self._exempt_until = now  # it can give more
        if since == now or now < self._exempt_until:
            return ""
        got, shown = self.got - got, self.shown - shown
        if got < MIN_GOT * spans or shown >= MIN_SHOWN * spans:
            return ""
        return f"{shown} pictures came back in {now - since:.0f} s, for {got} that it got"
