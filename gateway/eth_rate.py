"""What an ether is in US dollars, and prices and limits that are said in dollars. All in exact fractions.

Payments are in wei: an amount in dollars is turned into wei once, at the rate of then, and stays that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from gateway import money

WEI_PER_ETH = 10**18
STALE_AFTER = 2 * 3600
"""Seconds after which a rate is too old to begin something new on it."""


@dataclass(frozen=True, slots=True)
class Usd:
    """Dollars; of a price, dollars per second."""

    amount: Fraction

    def wei(self, rate: Fraction) -> Fraction:
        """In wei, at so many dollars for an ether."""
        return self.amount * WEI_PER_ETH / rate


def usd_of(wei: Fraction, rate: Fraction) -> Fraction:
    """Dollars of so many wei, at so many dollars for an ether."""
    return wei * rate / WEI_PER_ETH


class EthRate:
    """The rate: `fixed`, or what `update` says. `expected` is whether updates may come.

    `required` is whether prices or limits of the operator's need it. `wall` gives Unix seconds.
    """

    def __init__(
        self,
        fixed: Fraction | None = None,
        *,
        expected: bool = False,
        required: bool = False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.required = required
        self.trouble = ""
        """Why it was not read last time."""
        self._fixed = fixed
        self._expected = expected
        self._wall = wall
        self._read: tuple[Fraction, float] | None = None

    def update(self, rate: Fraction, at: float) -> None:
        """Take dollars for an ether, as they were at a time in Unix seconds."""
        if rate <= 0:
            raise ValueError("a rate is above 0")
        self.trouble = ""
        self._read = rate, at

    @property
    def last(self) -> Fraction | None:
        """The last rate that is known, however old: for what began before."""
        if self._fixed is not None:
            return self._fixed
        return None if self._read is None else self._read[0]

    @property
    def current(self) -> Fraction | None:
        """The rate, where it is not stale."""
        return self.last if self.refusal() is None else None

    def refusal(self) -> str | None:
        """Why nothing can begin that is priced or limited in dollars, a sentence; None where it can."""
        if self._fixed is not None:
            return None
        if self._read is None:
            if not self._expected:
                return (
                    "no rate of ETH to USD is known: the operator sets -ethUsd, or -ethUrl with a price feed"
                )
            return f"the rate of ETH to USD is not known yet{self._why}"
        age = self._wall() - self._read[1]
        if age < STALE_AFTER:
            return None
        hours = money.decimal(Fraction(round(age), 3600), 1)
        return f"the rate of ETH to USD is {hours} h old, which is too old for a new start{self._why}"

    @property
    def _why(self) -> str:
        return f" ({self.trouble})" if self.trouble else ""


class DollarPrice:
    """A price in dollars per second, as wei per second at the newest rate; 0 while none is known."""

    def __init__(self, price: Usd, rate: EthRate) -> None:
        self._price = price
        self._rate = rate

    @property
    def wei(self) -> Fraction:
        rate = self._rate.last
        return Fraction(0) if rate is None else self._price.wei(rate)


Price = Fraction | Usd
"""As the operator says it: wei per second, or dollars."""
PriceNow = Fraction | DollarPrice | None
"""Wei per second that stay, or that move with the rate; None where nothing is paid."""


def moving(price: Price | None, rate: EthRate) -> PriceNow:
    return DollarPrice(price, rate) if isinstance(price, Usd) else price


def wei_now(price: PriceNow) -> Fraction | None:
    return price.wei if isinstance(price, DollarPrice) else price
