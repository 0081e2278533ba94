"""Wei, exact: prices of live video, what a stream costs, how both are written.

One second of live video is defined on the wire as 720p at 30 frames, whatever the picture really is,
so a `PriceInfo` in wei per pixel and a price in wei per second are the same number up to that factor.
"""

from __future__ import annotations

from fractions import Fraction

PIXELS_PER_SECOND = 1280 * 720 * 30
"""27,648,000: what one second of live video counts as, in pixels."""

SECONDS_PER_HOUR = 3600


def wei_per_second(price_per_unit: int, pixels_per_unit: int) -> Fraction:
    """The price of one second, from a `PriceInfo`'s two numbers.

    Raises ValueError where they are no price: a unit of no pixels, or anything negative.
    """
    if price_per_unit < 0 or pixels_per_unit <= 0:
        raise ValueError(f"not a price: {price_per_unit} wei per {pixels_per_unit} pixels")
    return Fraction(price_per_unit * PIXELS_PER_SECOND, pixels_per_unit)


def wei_per_pixel(per_second: Fraction) -> Fraction:
    """The price of one 720p pixel, in lowest terms, from the price of one second."""
    return per_second / PIXELS_PER_SECOND


def fee(elapsed_seconds: Fraction, per_second: Fraction) -> Fraction:
    """What `elapsed_seconds` of stream cost, in wei: elapsed_seconds x (cost_per_hour / 3600)."""
    cost_per_hour = per_second * SECONDS_PER_HOUR
    return elapsed_seconds * (cost_per_hour / SECONDS_PER_HOUR)


def text(wei: Fraction | int) -> str:
    """How a price is written in JSON and logs: decimal digits if it is whole, else `n/d` in lowest terms."""
    return str(Fraction(wei))


def whole_wei(wei: Fraction) -> str:
    """How a sum is written in JSON: decimal digits, rounded towards zero. To end a calculation with."""
    return str(int(wei))


def decimal(number: Fraction, places: int = 3) -> str:
    """How a number is written for people: rounded towards zero to so many decimal places."""
    scaled = int(number * 10**places)
    whole, rest = divmod(abs(scaled), 10**places)
    sign = "-" if scaled < 0 else ""
    return f"{sign}{whole}.{rest:0{places}d}".rstrip("0").rstrip(".")
