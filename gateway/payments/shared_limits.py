"""Whether the limits that all nodes of a cluster share allow a payment. Plain logic, in exact wei."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from gateway.payments.spending import PublisherBudget, SpendLimitReached, SpendLimits, check_limit
from gateway.payments.ticket import MAX_WIN_PROB


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """A payment that the signer is to be asked for, and what it has to fit into. `most` is in wei."""

    most: Fraction
    request_id: str
    """The publish that it is for."""
    budget: PublisherBudget
    limits: SpendLimits

    @property
    def units(self) -> int:
        """The most that it may be worth, in 1/(2^256 - 1) wei."""
        return -(-self.most * MAX_WIN_PROB // 1)

    @property
    def limits_wei(self) -> bool:
        limits = (self.limits.hour, self.limits.day, self.budget.hour, self.budget.day)
        return any(limit is not None for limit in limits)

    @property
    def limits_starts(self) -> bool:
        return self.budget.starts is not None


@dataclass(frozen=True, slots=True)
class Counted:
    """What counts in the limits, at all nodes together: 1/(2^256 - 1) wei that were signed or are held."""

    hour: int = 0
    day: int = 0
    publisher_hour: int = 0
    publisher_day: int = 0
    starts: int = 0
    """Other publishes of the publisher that asked for a first payment within a minute."""


def refusal(request: HoldRequest, counted: Counted, units: int, *, starts: bool) -> SpendLimitReached | None:
    """Which limit does not allow so many 1/(2^256 - 1) wei more; None where all do.

    `starts` says that it is a publish's first payment.
    """
    most = request.budget.starts
    if starts and most is not None and counted.starts >= most:
        return SpendLimitReached(f"{most} paid streams were started within a minute, which is the limit")
    more = Fraction(units, MAX_WIN_PROB)
    sums = (
        ("this publisher's last hour", counted.publisher_hour, request.budget.hour),
        ("this publisher's last day", counted.publisher_day, request.budget.day),
        ("the last hour", counted.hour, request.limits.hour),
        ("the last day", counted.day, request.limits.day),
    )
    try:
        for what, spent, limit in sums:
            check_limit(what, Fraction(spent, MAX_WIN_PROB), more, limit)
    except SpendLimitReached as error:
        return error
    return None
