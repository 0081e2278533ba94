"""Events of payments: those that failed, and limits that are nearly used."""

from __future__ import annotations

from collections import OrderedDict
from fractions import Fraction

from gateway import money
from gateway.payments.job_identity import JobIdentity
from gateway.payments.spending import DAY, HOUR, PublisherBudget, Spending
from gateway.payments.timebase import NANOSECONDS
from gateway.telemetry.events import EventHub, EventType, StreamKey

NEAR = Fraction(8, 10)
"""The used part of a limit from which on it is near."""
NEAR_AGAIN = Fraction(7, 10)
"""Below this part it is told of again when it gets near."""
SUMS_EVERY = 10 * NANOSECONDS
"""Between two looks at sums over an hour or a day: they take milliseconds."""
REMEMBERED = 10_000


class NearLimits:
    """Emits `limit.near` once for each spend limit that gets near."""

    def __init__(self, hub: EventHub, spending: Spending) -> None:
        self._hub = hub
        self._spending = spending
        self._near: OrderedDict[str, None] = OrderedDict()
        self._summed: OrderedDict[str, int] = OrderedDict()

    def check(
        self, key: StreamKey, stream: str, limit: int | None, budget: PublisherBudget, now: int
    ) -> None:
        """Look at the limits that a payment of `stream` counts for. `now` is monotonic nanoseconds."""
        spending, limits = self._spending, self._spending.limits
        if limit is not None:
            self._look(f"stream {stream}", "stream", spending.spent_by(stream), limit, key)
        of_publisher = budget.hour is not None or budget.day is not None
        if of_publisher and self._is_due(f"publisher {budget.publisher}", now):
            for name, most, minutes in (("hour", budget.hour, HOUR), ("day", budget.day, DAY)):
                if most is not None:
                    spent = spending.spent_by_publisher(budget, minutes)
                    self._look(f"{name} {budget.publisher}", f"publisher_{name}", spent, most, key)
        if (limits.hour is not None or limits.day is not None) and self._is_due("", now):
            for name, most, minutes in (("hour", limits.hour, HOUR), ("day", limits.day, DAY)):
                if most is not None:
                    self._look(name, name, spending.spent(minutes), most, None)

    def _is_due(self, what: str, now: int) -> bool:
        if now < self._summed.get(what, now):
            return False
        self._summed[what] = now + SUMS_EVERY
        self._summed.move_to_end(what)
        if len(self._summed) > REMEMBERED:
            self._summed.popitem(last=False)
        return True

    def _look(self, what: str, limit: str, spent: Fraction, most: int, key: StreamKey | None) -> None:
        if spent < NEAR_AGAIN * most:
            self._near.pop(what, None)
        elif spent >= NEAR * most and what not in self._near:
            self._near[what] = None
            if len(self._near) > REMEMBERED:
                self._near.popitem(last=False)
            used = money.whole_wei(spent)
            data = {"limit": limit, "used": used, "most": str(most), "unit": "wei"}
            # what a publisher's other streams cost is not for those who watch this one
            self._hub.emit(EventType.LIMIT_NEAR, data, key, for_operator=limit != "stream")


class PaymentEvents:
    """The events of one job's payments."""

    def __init__(self, hub: EventHub, near: NearLimits, job: JobIdentity, budget: PublisherBudget) -> None:
        self._hub = hub
        self._near = near
        self._budget = budget
        self._key = StreamKey(job.stream, job.stream_id, job.request_id, budget.publisher, job.customer.name)
        self._addr = job.addr
        self._failing = False

    def failed(self, who: str, what: str, error: str) -> None:
        """A payment failed at the `signer` or the `orchestrator`; told of once until one is credited."""
        if not self._failing:
            self._failing = True
            data = {"at": who, "orchestrator": self._addr, "detail": f"{what}: {error}"}
            self._hub.emit(EventType.PAYMENT_FAILED, data, self._key)

    def credited(self) -> None:
        self._failing = False

    def spent(self, stream: str, limit: int | None, now: int) -> None:
        """A payment is counted in the limits."""
        self._near.check(self._key, stream, limit, self._budget, now)
