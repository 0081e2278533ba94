"""A runner's price: registered in USD, sold in whole wei for each second, pixel or call."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gateway.devnet.go_texts import GoNumber, go_decimal
from gateway.devnet.live_runners.dialect import Dialect
from gateway.money import PIXELS_PER_SECOND, SECONDS_PER_HOUR

WEI_PER_USD = 10**18 // 2000
"""The devnet's fixed rate: 2000 USD for an ether."""
PLACES = 36
"""Decimal places of a price in USD at most."""
MAX_PRICE = 2**63 - 1
NUMBER = re.compile(r"\s*[0-9]{1,40}(\.[0-9]{1,60})?([eE][+-]?[0-9]{1,2})?\s*")
"""A price as a decimal, bounded so that its exponent cannot fill the memory."""

UNITS = {"hour": "seconds", "720p": "720p-pixel-seconds", "fixed": "fixed"}
"""The unit in discovery, by that of the registration."""
UNITS_PER_SECOND = {"seconds": 1, "720p-pixel-seconds": PIXELS_PER_SECOND}


class BadPrice(ValueError):
    """The registered price is refused; the message says why."""


@dataclass(frozen=True, slots=True)
class RunnerPrice:
    """`wei` for each `unit`; `usd` is the same price as it was registered."""

    wei: int
    unit: str
    usd: Fraction

    @property
    def per_second(self) -> Fraction:
        """Wei per second; a fixed price has none and gives 0."""
        return Fraction(self.wei * UNITS_PER_SECOND.get(self.unit, 0))


def read_price(price_info: object, dialect: Dialect) -> RunnerPrice:
    """The `price_info` of a registration. Raises BadPrice."""
    if not isinstance(price_info, dict):
        raise BadPrice("price_info is required")
    currency = _word(price_info.get("currency"), "usd")
    unit = _word(price_info.get("unit"), "hour")
    if currency != "usd":
        raise BadPrice("price_info.currency must be usd")
    if unit not in dialect.units:
        raise BadPrice(f"price_info.unit must be {' or '.join(dialect.units)}")
    return price_of(_decimal(price_info.get("price")), unit, dialect)


def price_of(usd: Fraction, unit: str, dialect: Dialect) -> RunnerPrice:
    """What `usd` for each `unit` (`hour`, `720p` per hour, or `fixed`) is in whole wei. Raises BadPrice."""
    sold_by = UNITS[unit]
    wei = usd * WEI_PER_USD
    if sold_by in UNITS_PER_SECOND:
        wei /= SECONDS_PER_HOUR * UNITS_PER_SECOND[sold_by]
    whole = math.ceil(wei) if dialect.rounds_up else math.floor(wei)
    if whole > MAX_PRICE:
        raise BadPrice("price_info.price does not fit into 64 bits")
    return RunnerPrice(whole, sold_by, usd)


def usd_per_hour(wei_per_second: Fraction) -> str:
    """The exact decimal of USD per hour for a whole number of wei per second, as a registration has it."""
    usd = wei_per_second * SECONDS_PER_HOUR / WEI_PER_USD
    return go_decimal(usd, PLACES).rstrip("0").rstrip(".")


def price_json(price: RunnerPrice, wei: int, dialect: Dialect) -> dict[str, Any]:
    """The `price_info` of discovery, showing `wei`."""
    shown: dict[str, Any] = {"price": wei, "currency": "wei", "unit": price.unit}
    if dialect.rounds_up:
        usd = price.usd / SECONDS_PER_HOUR if price.unit == "seconds" else price.usd
        shown["price_usd"] = GoNumber(go_decimal(usd, PLACES).rstrip("0").rstrip("."))
    return shown


def _word(value: object, default: str) -> str:
    return value.strip().lower() or default if isinstance(value, str) else default


def _decimal(value: object) -> Fraction:
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    try:
        if not NUMBER.fullmatch(text):
            raise ValueError(text)
        price = Fraction(text.strip())
    except ValueError:
        raise BadPrice("price_info.price must be a positive decimal") from None
    if price <= 0:
        raise BadPrice("price_info.price must be a positive decimal")
    return price
