"""The operator's ceiling, `-maxPricePerUnit`, in every form that it is written in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from gateway.money import SECONDS_PER_HOUR, wei_per_second

WEI_IN = {"wei": 1, "gwei": 10**9, "eth": 10**18}
SUSPICIOUSLY_LOW = 10**9
"""A bare integer below this many wei per second is more likely to be meant as wei per pixel."""

_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*(wei|gwei|eth)?(/h)?", re.IGNORECASE)


def parse_amount(value: str) -> int:
    """Wei of an amount: a whole number of wei, or a decimal with a unit such as `0.05ETH`; ValueError."""
    price = PriceCeiling.parse(value)
    if "/" in value or price.amount.denominator != 1:
        raise ValueError("an amount is whole wei, and not per hour")
    return int(price.amount)


@dataclass(frozen=True)
class PriceCeiling:
    """A price as it was written: wei per second or, without a unit, per as much as `-pixelsPerUnit` says."""

    amount: Fraction
    has_unit: bool

    @classmethod
    def parse(cls, value: str) -> PriceCeiling:
        """Read `1000000000000000`, `0.001ETH`, `1000000gwei` or `3.6ETH/h`; ValueError for anything else."""
        form = _FORM.fullmatch(value.strip())
        if form is None:
            raise ValueError(value)
        number, unit, per_hour = form.groups()
        if unit is None and "." in number:
            raise ValueError("a decimal needs a unit")
        amount = Fraction(number) * WEI_IN[(unit or "wei").lower()]
        if per_hour:
            amount /= SECONDS_PER_HOUR
        return cls(amount, has_unit=bool(unit or per_hour))

    def per_second(self, pixels_per_unit: int | None) -> Fraction:
        """The ceiling in wei per second.

        With `pixels_per_unit` the number is read as go-livepeer reads it, wei for so many pixels; together
        with a unit that is a contradiction and raises ValueError.
        """
        if pixels_per_unit is None:
            return self.amount
        if self.has_unit:
            raise ValueError("a price with a unit is per second, so -pixelsPerUnit cannot go with it")
        return wei_per_second(int(self.amount), pixels_per_unit)

    def is_suspiciously_low(self, pixels_per_unit: int | None) -> bool:
        """Whether the operator should be asked if wei per pixel was meant."""
        return pixels_per_unit is None and not self.has_unit and self.amount < SUSPICIOUSLY_LOW
