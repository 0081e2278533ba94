from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.money import fee, text, wei_per_pixel, wei_per_second, whole_wei

KNOWN = json.loads((Path(__file__).parent / "data" / "prices.json").read_text())
ETH = 10**18


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: f"{row['price_per_unit']}/{row['pixels_per_unit']}")
def test_known_prices_come_out(row: dict[str, str]) -> None:
    price = wei_per_second(int(row["price_per_unit"]), int(row["pixels_per_unit"]))
    assert text(price) == row["wei_per_second"]


def test_an_hour_at_the_documented_price_is_exactly_3_6_eth() -> None:
    assert fee(Fraction(3600), Fraction(10**15)) == Fraction(36, 10) * ETH


@given(st.integers(0, 10**30), st.integers(1, 10**12), st.integers(0, 10**9), st.integers(0, 10**9))
def test_fees_add_up_however_time_is_cut(price: int, unit: int, first: int, second: int) -> None:
    per_second = Fraction(price, unit)
    parts = [Fraction(first, 10**9), Fraction(second, 10**9)]
    assert sum(fee(part, per_second) for part in parts) == fee(sum(parts, Fraction(0)), per_second)


@given(st.integers(0, 2**63 - 1), st.integers(1, 2**63 - 1))
def test_a_price_survives_the_way_to_pixels_and_back(price: int, pixels: int) -> None:
    assert wei_per_pixel(wei_per_second(price, pixels)) == Fraction(price, pixels)


@pytest.mark.parametrize(("price", "pixels"), [(1, 0), (-1, 1), (1, -1)])
def test_what_is_no_price_is_refused(price: int, pixels: int) -> None:
    with pytest.raises(ValueError):
        wei_per_second(price, pixels)


def test_a_price_that_is_not_whole_is_written_in_lowest_terms() -> None:
    assert (text(Fraction(6, 4)), text(Fraction(4, 2)), text(7)) == ("3/2", "2", "7")


def test_a_sum_is_rounded_down_once() -> None:
    assert whole_wei(Fraction(7, 2)) == "3"
