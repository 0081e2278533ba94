"""The operator's price ceiling, `-maxPricePerUnit`, in all forms that the flag takes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from gateway.eth_rate import Price, Usd
from gateway.money import SECONDS_PER_HOUR, wei_per_second

USD = "usd"
WEI_IN = {"wei": 1, "gwei": 10**9, "eth": 10**18}
SUSPICIOUSLY_LOW = 10**9
"""Below this many wei per second, an integer without a unit was probably meant as wei per pixel."""

_FORM = re.compile(r"(\d{1,40}(?:\.\d{1,40})?)\s*(wei|gwei|eth|usd)?(/h)?", re.IGNORECASE)


def parse_amount(value: str) -> int:
    """An amount in wei, from a whole number of wei or a decimal with a unit such as `0.05ETH`.

    Raises ValueError.
    """
    amount = parse_limit(value)
    if isinstance(amount, Usd):
        raise ValueError("an amount in wei or ETH is wanted here")
    return amount


def parse_limit(value: str) -> int | Usd:
    """An amount in wei as `parse_amount` reads it, or one in dollars such as `5USD`. Raises ValueError."""
    price = PriceCeiling.parse(value)
    if "/" in value or (price.amount.denominator != 1 and not price.in_usd):
        raise ValueError("an amount must be whole wei, not a price per hour")
    return Usd(price.amount) if price.in_usd else int(price.amount)


@dataclass(frozen=True)
class PriceCeiling:
    """The flag's value: wei per second or, where it has no unit, wei per `-pixelsPerUnit` pixels.

    With `in_usd` it is dollars per second.
    """

    amount: Fraction
    has_unit: bool
    in_usd: bool = False

    @classmethod
    def parse(cls, value: str) -> PriceCeiling:
        """Parse `1000000000000000`, `0.001ETH`, `1000000gwei`, `3.6ETH/h` or `0.50USD/h`, else ValueError."""
        form = _FORM.fullmatch(value.strip())
        if form is None:
            raise ValueError(value)
        number, unit, per_hour = form.groups()
        if unit is None and "." in number:
            raise ValueError("a decimal needs a unit")
        in_usd = (unit or "").lower() == USD
        amount = Fraction(number) * (1 if in_usd else WEI_IN[(unit or "wei").lower()])
        if per_hour:
            amount /= SECONDS_PER_HOUR
        return cls(amount, has_unit=bool(unit or per_hour), in_usd=in_usd)

    def price(self, pixels_per_unit: int | None) -> Price:
        """The ceiling as `per_second`, or in dollars where it was said so."""
        if self.in_usd and pixels_per_unit is None:
            return Usd(self.amount)
        return self.per_second(pixels_per_unit)

    def per_second(self, pixels_per_unit: int | None) -> Fraction:
        """The ceiling in wei per second.

        With `pixels_per_unit` the number is go-livepeer's, wei per that many pixels. ValueError where it has
        a unit as well.
        """
        if pixels_per_unit is None:
            if self.in_usd:
                raise ValueError("a price in wei or ETH is wanted here")
            return self.amount
        if self.has_unit:
            raise ValueError("a price with a unit is per second, so it takes no -pixelsPerUnit")
        return wei_per_second(int(self.amount), pixels_per_unit)

    def is_suspiciously_low(self, pixels_per_unit: int | None) -> bool:
        """Whether wei per pixel was probably meant."""
        return pixels_per_unit is None and not self.has_unit and self.amount < SUSPICIOUSLY_LOW
