"""How often payments will be made: the interval, or longer where one ticket pays for more time."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gateway import money
from gateway.payments.billing import PRELOAD, first_payment
from gateway.payments.figures import json_seconds
from gateway.payments.payment import MAX_TICKETS
from gateway.payments.timebase import NANOSECONDS


@dataclass(frozen=True, slots=True)
class Cadence:
    """`price` is wei per second, `ticket_ev` a ticket's expected value in wei, `interval` nanoseconds."""

    price: Fraction
    ticket_ev: Fraction
    interval: int
    opening: int = PRELOAD
    """Seconds that the first payment is for."""

    @property
    def ticket_seconds(self) -> Fraction:
        """Seconds of stream that one ticket pays for."""
        return self.ticket_ev / self.price

    @property
    def first_tickets(self) -> int:
        """How many tickets the first payment needs."""
        return int(first_payment(self.price, self.ticket_ev, self.opening) / self.ticket_ev)

    @property
    def refusal(self) -> str:
        """Why no session can start with these tickets; empty where one can."""
        if self.first_tickets <= MAX_TICKETS:
            return ""
        return (
            f"one of its tickets is worth {money.decimal(self.ticket_seconds)} s of stream, so the first "
            f"{self.opening} s need more than {MAX_TICKETS} tickets: its operator must raise the "
            "expected value of a ticket"
        )

    @property
    def warning(self) -> str:
        """What an operator should know about these tickets; empty where nothing."""
        if self.ticket_seconds <= self.opening:
            return ""
        return "one ticket is worth more than the preload: payments are rare and large"

    def figures(self) -> dict[str, Any]:
        """For logs."""
        interval = Fraction(self.interval, NANOSECONDS)
        return {
            "price_wei_per_second": money.text(self.price),
            "ticket_wei": money.whole_wei(self.ticket_ev),
            "ticket_seconds": json_seconds(self.ticket_seconds),
            "interval_s": json_seconds(interval),
            "first_tickets": self.first_tickets,
            "tickets_per_payment": json_seconds(max(Fraction(1), interval / self.ticket_seconds)),
            "payment_every_s": json_seconds(max(interval, self.ticket_seconds)),
        }
