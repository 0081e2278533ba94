"""The account of what a job, or a stream over all its jobs, has paid: exact, for others to look at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

PaymentState = Literal["ok", "waiting", "failing"]
"""`waiting` before the job runs and while nothing can be due, `failing` after a payment that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentStatus:
    """Sums in wei, times in seconds, both exact; `stream/status.py` makes JSON of them."""

    accepted: int
    """Payments that were credited."""
    tickets: int
    """Tickets in them."""
    credited: Fraction
    """Wei that were credited."""
    owed: Fraction
    """Wei that the time since the job's start costs."""
    overpaid: Fraction = Fraction(0)
    """Wei that rounding to whole seconds cost; after the end, all that was credited and not owed."""
    last_accepted_age: Fraction | None
    """None before the first payment was credited."""
    next_due_in: Fraction | None
    """Seconds until the next payment is due; None where none is."""
    credit_left: Fraction | None
    """Seconds of stream that are paid for in advance, by our estimate; None before the job runs."""
    state: PaymentState
    alarms: int
    """Payments refused or not as asked for, and times that the credit ran low."""

    def after(self, former: PaymentStatus) -> PaymentStatus:
        """This account with the sums of a former job's."""
        return replace(
            self,
            accepted=former.accepted + self.accepted,
            tickets=former.tickets + self.tickets,
            credited=former.credited + self.credited,
            owed=former.owed + self.owed,
            overpaid=former.overpaid + self.overpaid,
            alarms=former.alarms + self.alarms,
        )
