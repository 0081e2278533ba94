from __future__ import annotations

from fractions import Fraction

import pytest

from gateway.payments.ceiling import PriceCeiling


@pytest.mark.parametrize(
    "text",
    [
        "1000000000000000",
        "0.001ETH",
        "1000000gwei",
        "3.6ETH/h",
        "1000000000000000wei",
        "0.001eth",
        "3600000000gwei/h",
    ],
)
def test_every_form_of_the_documented_price_is_the_same_price(text: str) -> None:
    assert PriceCeiling.parse(text).per_second(None) == 10**15


def test_a_price_per_hour_stays_exact() -> None:
    assert PriceCeiling.parse("1ETH/h").per_second(None) == Fraction(10**18, 3600)


@pytest.mark.parametrize(
    "text", ["", "0.5", "-1", "1e15", "1 000", "ETH", "1/3", "0x10", "1ETH/s", "1ETHh", "NaN"]
)
def test_invalid_prices_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        PriceCeiling.parse(text)


def test_with_pixels_per_unit_it_means_what_go_livepeer_means() -> None:
    assert PriceCeiling.parse("1200").per_second(1) == 33_177_600_000
    assert PriceCeiling.parse("7").per_second(3) == 64_512_000
    assert PriceCeiling.parse("1000000000000000").per_second(27_648_000) == 10**15


def test_a_unit_and_pixels_per_unit_contradict_each_other() -> None:
    for text in ("0.001ETH", "1000wei", "1000/h"):
        with pytest.raises(ValueError, match="takes no -pixelsPerUnit"):
            PriceCeiling.parse(text).per_second(1)
    with pytest.raises(ValueError):
        PriceCeiling.parse("1").per_second(0)


def test_a_bare_integer_below_a_gwei_a_second_looks_like_wei_per_pixel() -> None:
    assert PriceCeiling.parse("999999999").is_suspiciously_low(None)
    assert not PriceCeiling.parse("1000000000").is_suspiciously_low(None)
    assert not PriceCeiling.parse("1200").is_suspiciously_low(1)
    assert not PriceCeiling.parse("1200wei").is_suspiciously_low(None)
