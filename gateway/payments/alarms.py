"""Errors that an operator has to look at: logged, and counted for the metrics."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from structlog.typing import FilteringBoundLogger

from gateway import money
from gateway.payments.figures import json_seconds
from gateway.payments.payment_events import PaymentEvents
from gateway.payments.timebase import NANOSECONDS


class Alarms:
    """One job's alarms."""

    def __init__(self, log: FilteringBoundLogger, events: PaymentEvents) -> None:
        self.count = 0
        self.events = events
        self._log = log
        self._credit_is_low = False
        self._is_overbilled = False

    def report(self, event: str, **details: Any) -> None:
        """Log an error and count it."""
        self.count += 1
        self._log.error(event, **details)

    def payment_failed(self, event: str, error: str, **details: Any) -> None:
        """Report a payment that the signer did not make, or not as it was asked to.

        `details` are for the log alone; those who watch the stream get the rest.
        """
        self.report(event, error=error, **details)
        self.events.failed("signer", event, error)

    def watch_credit(self, seconds_left: Fraction | None, interval: int) -> None:
        """Report a credit that falls below one interval (nanoseconds), once until it recovers."""
        if seconds_left is None:
            return
        low = seconds_left < Fraction(interval, NANOSECONDS)
        if low and not self._credit_is_low:
            self.report("credit is low", credit_left_s=json_seconds(seconds_left))
        self._credit_is_low = low

    def watch_billing(self, overbilled: Fraction) -> None:
        """Report a signer that billed for more than the time (wei), once until that is made up for."""
        if overbilled > 0 and not self._is_overbilled:
            self.report("signer billed more than the time that passed", wei=money.whole_wei(overbilled))
        self._is_overbilled = overbilled > 0
