"""Spend limits: what streams have spent and may still spend, in wei.

The most that a signing call can cost is held before the call and replaced by the payment's value after it, so
that calls at the same time cannot exceed a limit together.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, replace
from fractions import Fraction
from typing import TypeVar

from gateway import money
from gateway.eth_rate import EthRate, Usd
from gateway.payments.timebase import now_ns

T = TypeVar("T", int, Fraction)
MINUTE = 60 * 10**9
HOUR = 60
DAY = 24 * HOUR
REMEMBERED = 10_000
"""Sums by stream, and by publisher, that are kept: of those that paid last, many more than can be live."""


class SpendLimitReached(Exception):
    """A spend limit does not allow the next payment.

    The text says which one, for everybody: publishers and viewers read it. `amounts` is for the operator.
    """

    def __init__(self, text: str, amounts: str = "") -> None:
        super().__init__(text)
        self.amounts = amounts


@dataclass(frozen=True, slots=True)
class SpendLimits:
    """The most that all streams together may cost, in wei; None is no limit."""

    hour: int | None = None
    day: int | None = None
    hour_usd: Fraction | None = None
    day_usd: Fraction | None = None
    """Dollars; the lower one counts where there are two."""

    @property
    def in_usd(self) -> bool:
        return self.hour_usd is not None or self.day_usd is not None

    def in_wei(self, rate: Fraction | None) -> SpendLimits:
        """Without dollars, at so many for an ether; where the rate is not known they are nothing."""
        hour, day = _in_wei(self.hour, self.hour_usd, rate), _in_wei(self.day, self.day_usd, rate)
        return SpendLimits(hour, day)


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Limits of one stream, and of all streams of its publisher. None is no limit."""

    wei: int | None = None
    """Of the stream, over all its jobs."""
    seconds: int | None = None
    """Since the stream was published."""
    publisher_hour: int | None = None
    """Wei of the publisher's streams within an hour."""
    publisher_day: int | None = None
    """Wei of the publisher's streams within a day."""
    paid_starts: int | None = None
    """Paid streams that the publisher may start within a minute."""
    usd: Fraction | None = None
    """Dollars of the stream, as `wei`; the lower one counts where there are two."""
    publisher_hour_usd: Fraction | None = None
    publisher_day_usd: Fraction | None = None

    @property
    def in_usd(self) -> bool:
        amounts = (self.usd, self.publisher_hour_usd, self.publisher_day_usd)
        return any(amount is not None for amount in amounts)

    def in_wei(self, rate: Fraction | None) -> StreamLimits:
        """Without dollars, at so many for an ether; where the rate is not known they are nothing."""
        return replace(
            self,
            wei=_in_wei(self.wei, self.usd, rate),
            publisher_hour=_in_wei(self.publisher_hour, self.publisher_hour_usd, rate),
            publisher_day=_in_wei(self.publisher_day, self.publisher_day_usd, rate),
            usd=None,
            publisher_hour_usd=None,
            publisher_day_usd=None,
        )

    def lowered_by(self, other: StreamLimits) -> StreamLimits:
        """The lower of each limit."""
        return StreamLimits(*map(_lower, astuple(self), astuple(other)))


NO_LIMITS = StreamLimits()


@dataclass(frozen=True, slots=True)
class PublisherBudget:
    """The most that all streams of one publisher may cost, in wei; None is no limit."""

    publisher: str
    hour: int | None
    day: int | None
    starts: int | None = None
    """Paid streams that it may start within a minute."""


NOBODY = PublisherBudget("", None, None)


class Minutes:
    """Wei by minute, of the last day."""

    def __init__(self) -> None:
        self._wei: dict[int, Fraction] = {}

    def add(self, minute: int, wei: Fraction) -> None:
        if minute not in self._wei:
            self._wei = {one: spent for one, spent in self._wei.items() if one >= minute - DAY}
        self._wei[minute] = self._wei.get(minute, Fraction(0)) + wei

    def spent(self, this_minute: int, minutes: int) -> Fraction:
        """Wei of this minute and that many before it."""
        since = this_minute - minutes
        return sum((wei for minute, wei in self._wei.items() if minute >= since), Fraction(0))


class Spending:
    """What was spent, by stream, by publisher and minute, and by minute, checked against the limits.

    The last hour and day are counted in whole minutes, with the oldest one in full: they are never too
    short. `clock` is monotonic nanoseconds.
    """

    def __init__(
        self, limits: SpendLimits, *, clock: Callable[[], int] = now_ns, rate: EthRate | None = None
    ) -> None:
        self._limits = limits
        self._rate = rate
        self._clock = clock
        self._all = Minutes()
        self._publishers: OrderedDict[str, Minutes] = OrderedDict()
        self._streams: OrderedDict[str, Fraction] = OrderedDict()

    @property
    def limits(self) -> SpendLimits:
        """In wei; those in dollars at the newest rate."""
        if not self._limits.in_usd:
            return self._limits
        return self._limits.in_wei(None if self._rate is None else self._rate.last)

    def restore(self, signed: Iterable[tuple[int, Fraction, str]], *, wall_ns: int | None = None) -> None:
        """Count payments from before this start: wall-clock times in nanoseconds, wei, and publishers."""
        now, wall = self._clock(), time.time_ns() if wall_ns is None else wall_ns
        for at, wei, publisher in signed:
            age = max(0, wall - at)
            self._add((now - age) // MINUTE, wei, publisher)

    def restore_stream(self, stream: str, wei: Fraction) -> None:
        """Count what a stream spent before this start."""
        self._streams[stream] = wei

    def restored_hold(
        self, stream: str, budget: PublisherBudget, wei: Fraction, at: int, *, wall_ns: int | None = None
    ) -> Hold:
        """The hold of a payment that was counted by `restore`; it was signed `at` by the wall clock."""
        end_of_minute = (at // MINUTE + 1) * MINUTE - 1  # what `restore` was told
        age = max(0, (time.time_ns() if wall_ns is None else wall_ns) - end_of_minute)
        return Hold(self, stream, budget, (self._clock() - age) // MINUTE, wei)

    def hold(
        self, stream: str, most: Fraction, limit: int | None = None, budget: PublisherBudget = NOBODY
    ) -> Hold:
        """Hold the most that a payment for `stream` can cost.

        `limit` is the stream's own, `budget` its publisher's. Raises SpendLimitReached where a limit does not
        allow it.
        """
        self.check(most, spent=self.spent_by(stream), limit=limit, budget=budget)
        hold = Hold(self, stream, budget, self._clock() // MINUTE, most)
        self.count(hold, most)
        return hold

    def check(
        self,
        most: Fraction,
        *,
        spent: Fraction = Fraction(0),
        limit: int | None = None,
        budget: PublisherBudget = NOBODY,
    ) -> None:
        """Raise SpendLimitReached where a stream that has `spent` may not spend `most` more."""
        check_limit("this stream", spent, most, limit)
        # a sum over a day takes milliseconds: it is made only where there is a limit
        if budget.hour is not None:
            check_limit(
                "this publisher's last hour", self.spent_by_publisher(budget, HOUR), most, budget.hour
            )
        if budget.day is not None:
            check_limit("this publisher's last day", self.spent_by_publisher(budget, DAY), most, budget.day)
        limits = self.limits
        if limits.hour is not None:
            check_limit("the last hour", self.spent(HOUR), most, limits.hour)
        if limits.day is not None:
            check_limit("the last day", self.spent(DAY), most, limits.day)

    def move(self, hold: Hold, stream: str, limit: int | None, budget: PublisherBudget) -> Hold:
        """Count a payment for another stream and its publisher, still in the minute when it was asked for.

        Raises SpendLimitReached where their limits do not allow it.
        """
        wei = hold.wei
        hold.settle(Fraction(0))
        try:
            self.check(wei, spent=self.spent_by(stream), limit=limit, budget=budget)
        except SpendLimitReached:
            hold.settle(wei)
            raise
        moved = Hold(self, stream, budget, hold.minute, Fraction(0))
        moved.settle(wei)
        return moved

    def spent_by(self, stream: str) -> Fraction:
        """Wei spent by a stream, held ones included."""
        return self._streams.get(stream, Fraction(0))

    def spent(self, minutes: int) -> Fraction:
        """Wei spent in that many last minutes, held ones included."""
        return self._all.spent(self._clock() // MINUTE, minutes)

    def spent_by_publisher(self, budget: PublisherBudget, minutes: int) -> Fraction:
        """Wei spent in that many last minutes by the publisher, held ones included."""
        spent = self._publishers.get(budget.publisher)
        return Fraction(0) if spent is None else spent.spent(self._clock() // MINUTE, minutes)

    def count(self, hold: Hold, wei: Fraction) -> None:
        """Add wei, or subtract them, to the minute, the publisher and the stream of a hold."""
        self._add(hold.minute, wei, hold.budget.publisher)
        self._streams[hold.stream] = self._streams.pop(hold.stream, Fraction(0)) + wei
        if len(self._streams) > REMEMBERED:
            self._streams.popitem(last=False)

    def _add(self, minute: int, wei: Fraction, publisher: str) -> None:
        self._all.add(minute, wei)
        if publisher:
            minutes = self._publishers[publisher] = self._publishers.pop(publisher, Minutes())
            minutes.add(minute, wei)
        if len(self._publishers) > REMEMBERED:
            self._publishers.popitem(last=False)


class Hold:
    """Wei that are reserved for one payment until its value is known."""

    def __init__(
        self, spending: Spending, stream: str, budget: PublisherBudget, minute: int, wei: Fraction
    ) -> None:
        self._spending = spending
        self.stream = stream
        self.budget = budget
        self.minute = minute
        self.wei = wei

    def settle(self, wei: Fraction) -> None:
        """Replace the held wei by the payment's value: 0 where there was none."""
        self._spending.count(self, wei - self.wei)
        self.wei = wei

    def cover(self, wei: Fraction, limit: int | None = None) -> None:
        """Settle at a value that may be above the held one. Raises SpendLimitReached."""
        if wei > self.wei:
            spent = self._spending.spent_by(self.stream)
            self._spending.check(wei - self.wei, spent=spent, limit=limit, budget=self.budget)
        self.settle(wei)


def check_limit(what: str, spent: Fraction, more: Fraction, limit: int | None) -> None:
    """Raise SpendLimitReached where `spent` and `more` wei are above a limit."""
    if limit is not None and spent + more > limit:
        raise SpendLimitReached(
            f"the next payment does not fit into the limit of {what}",
            f"{what} cost {money.whole_wei(spent)} wei, the next payment may cost {money.whole_wei(more)}, "
            f"and the limit is {limit}",
        )


def _in_wei(wei: int | None, usd: Fraction | None, rate: Fraction | None) -> int | None:
    """The lower of two limits, of which one is in dollars: rounded down to a wei."""
    if usd is None:
        return wei
    return _lower(wei, 0 if rate is None else int(Usd(usd).wei(rate)))


def _lower(one: T | None, other: T | None) -> T | None:
    given = [limit for limit in (one, other) if limit is not None]
    return min(given) if given else None
