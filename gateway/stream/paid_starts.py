"""What holds a publisher's next paid stream back: many starts in a minute, streams that nobody can show, and
those that the signer refuses to pay."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.candidates.suspension import SuspensionState
from gateway.payments.customer import Customer

WINDOW = 60.0
"""Seconds in which starts are counted."""
FIRST_REFUSED = 5.0
LONGEST_REFUSED = 300.0
"""Seconds for which a publisher that the signer refuses is held back, twice as long each time: encoders come
back at once, and a budget may be filled up."""
MAX_PUBLISHERS = 10_000
"""Publishers whose starts are kept: those that started last. As many are held back with a customer."""

NONE: Mapping[str, float] = MappingProxyType({})


class MayNotStart(Exception):
    """A publisher may start its next paid stream after `retry_after` seconds; the text says why."""

    def __init__(self, why: str, retry_after: int) -> None:
        super().__init__(why)
        self.retry_after = retry_after


class TooManyStarts(MayNotStart):
    """It started too many within a minute."""


class NobodyShows(MayNotStart):
    """No worker could show its last one: each costs a first payment at several orchestrators."""


class RefusedBySigner(MayNotStart):
    """The signer refused to pay its last one, as it knows this customer."""


@dataclass(frozen=True, slots=True)
class _Refused:
    why: str
    pause: float
    until: float


class PaidStarts:
    """Counts starts. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._starts: OrderedDict[str, dict[str, float]] = OrderedDict()
        """By publisher: when each publish started, by its request id, the oldest first."""
        self._unshown: OrderedDict[str, SuspensionState] = OrderedDict()
        self._refused: OrderedDict[tuple[str, Customer], _Refused] = OrderedDict()
        """The publishers with the customer for whom the signer refused to pay their last stream."""

    def check(self, publisher: str, most: int | None, elsewhere: Mapping[str, float] = NONE) -> None:
        """Raise TooManyStarts where the publisher has started `most` within a minute.

        `elsewhere` are its starts on all nodes of a cluster: how many seconds ago, by request id.
        """
        if most is None:
            return
        now = self._clock()
        recent = {one: at for one, at in self._starts.get(publisher, NONE).items() if at > now - WINDOW}
        if publisher in self._starts:
            self._starts[publisher] = recent
        others = {one: now - age for one, age in elsewhere.items() if age < WINDOW}
        started = sorted({**others, **recent}.values())
        if len(started) >= most:
            why = f"{most} paid streams were started within a minute, which is the limit"
            raise TooManyStarts(why, math.ceil(started[-most] + WINDOW - now))

    def count(
        self, publisher: str, request_id: str, most: int | None, elsewhere: Mapping[str, float] = NONE
    ) -> None:
        """Count one more start. Raises TooManyStarts instead, where `check` does."""
        self.check(publisher, most, elsewhere)
        if most is None:
            return
        recent = self._starts[publisher] = self._starts.pop(publisher, {})
        recent[request_id] = self._clock()
        if len(self._starts) > MAX_PUBLISHERS:
            self._starts.popitem(last=False)

    def check_shown(self, publisher: str) -> None:
        """Raise NobodyShows for a while after a stream that no worker could show, longer each time."""
        state, now = self._unshown.get(publisher), self._clock()
        held = None if state is None else state.active(now)
        if held is not None:
            why = f"no worker could show this publisher's last stream: {held.reason}"
            raise NobodyShows(why, math.ceil(held.seconds_left(now)))

    def unshown(self, publisher: str, why: str) -> None:
        """No worker could show a stream of this publisher's."""
        state = self._unshown.setdefault(publisher, SuspensionState())
        self._unshown.move_to_end(publisher)
        state.fault(why, self._clock())
        if len(self._unshown) > MAX_PUBLISHERS:
            self._unshown.popitem(last=False)

    def shown(self, publisher: str) -> None:
        """A worker showed one."""
        self._unshown.pop(publisher, None)

    def check_accepted(self, publisher: str, customer: Customer) -> None:
        """Raise RefusedBySigner for a while after the signer refused this customer, longer each time."""
        refused, now = self._refused.get((publisher, customer)), self._clock()
        if refused is not None and now < refused.until:
            whom = f"no new stream for customer {customer.name!r} yet: " if customer.name else ""
            raise RefusedBySigner(whom + refused.why, math.ceil(refused.until - now))

    def refused(self, publisher: str, customer: Customer, why: str) -> None:
        """The signer refused to pay a stream of this publisher's for this customer."""
        known = self._refused.pop((publisher, customer), None)
        pause = FIRST_REFUSED if known is None else min(2 * known.pause, LONGEST_REFUSED)
        self._refused[publisher, customer] = _Refused(why, pause, self._clock() + pause)
        if len(self._refused) > MAX_PUBLISHERS:
            self._refused.popitem(last=False)

    def accepted(self, publisher: str, customer: Customer) -> None:
        """The signer pays one for this customer."""
        self._refused.pop((publisher, customer), None)

    def give_back(self, publisher: str, request_id: str) -> None:
        """Forget a start for which nothing was paid; none where it was not counted."""
        self._starts.get(publisher, {}).pop(request_id, None)
