"""What an orchestrator does with those who pay it: honest, or hostile in one of the ways of `-hostile`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """The default is honest."""

    refuses_paid: bool = False
    """Answer a start 503 after its payment was credited."""
    works: bool = True
    """Give jobs to the runner."""
    picture_interval: float = 0.0
    """Seconds between two pictures at least, after a job's first ones."""
    listed_price: Fraction = Fraction(1)
    """Every other info has this many times the price, the first one among them."""
    ticket_factor: int = 1
    """Tickets are worth this many times as much after the first payment on `/payment`."""
    moves: bool = False
    """Have another address after each start."""


HONEST = Conduct()
CONDUCTS = {
    "none": HONEST,
    "no_room": Conduct(refuses_paid=True),
    "no_picture": Conduct(works=False),
    "drip": Conduct(picture_interval=29.0),
    "bait": Conduct(listed_price=Fraction(1, 1000)),
    "large_tickets": Conduct(ticket_factor=1000),
    "moving_address": Conduct(works=False, moves=True),
}
