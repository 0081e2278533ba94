"""Prices and fees in exact wei, and how both are written.

On the wire a price is wei per pixel, and one second of live video counts as 720p at 30 frames, whatever its
real size. So a price per pixel and a price per second differ by a constant factor.
"""

from __future__ import annotations

from fractions import Fraction

PIXELS_PER_SECOND = 1280 * 720 * 30
"""27,648,000: the pixels of one second of live video."""

SECONDS_PER_HOUR = 3600


def wei_per_second(price_per_unit: int, pixels_per_unit: int) -> Fraction:
    """The price of one second, from the two numbers of a `PriceInfo`.

    Raises ValueError for a negative price, or pixels that are not positive.
    """
    if price_per_unit < 0 or pixels_per_unit <= 0:
        raise ValueError(f"not a price: {price_per_unit} wei per {pixels_per_unit} pixels")
    return Fraction(price_per_unit * PIXELS_PER_SECOND, pixels_per_unit)


def wei_per_pixel(per_second: Fraction) -> Fraction:
    """The price of one 720p pixel, from the price of one second."""
    return per_second / PIXELS_PER_SECOND


def fee(elapsed_seconds: Fraction, per_second: Fraction) -> Fraction:
    """The fee for `elapsed_seconds` in wei: elapsed_seconds x (cost_per_hour / 3600)."""
    cost_per_hour = per_second * SECONDS_PER_HOUR
    return elapsed_seconds * (cost_per_hour / SECONDS_PER_HOUR)


def text(wei: Fraction | int) -> str:
    """A price for JSON and logs: decimal digits where it is whole, else `n/d` in lowest terms."""
    return str(Fraction(wei))


def whole_wei(wei: Fraction) -> str:
    """A sum for JSON: decimal digits, rounded towards zero. Only for the end of a calculation."""
    return str(int(wei))


def decimal(number: Fraction, places: int = 3) -> str:
    """A number for people: rounded towards zero to that many decimal places."""
    scaled = int(number * 10**places)
    whole, rest = divmod(abs(scaled), 10**places)
    sign = "-" if scaled < 0 else ""
    return f"{sign}{whole}.{rest:0{places}d}".rstrip("0").rstrip(".")
