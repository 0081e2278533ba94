"""money.js: wei and ETH are exact."""

from __future__ import annotations

from collections.abc import AsyncIterator
from fractions import Fraction

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page

from tests.pages.conftest import opened, scripted_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(desktop: BrowserContext) -> AsyncIterator[Page]:
    """One page for all: the module is only imported on it."""
    async with scripted_gateway() as gateway, opened(desktop, gateway) as page:
        yield page


CALL = """async ([name, ...args]) => {
  const module = await import(new URL("pages/money.js", document.baseURI));
  return module[name](...args);
}"""


ETH_OF_WEI = {
    "0": "0",
    "1": "0.000000000000000001",
    "1000000000000000": "0.001",
    "3600000000000000000": "3.6",
    "100000000000000000000": "100",
    "123456789012345678901234567890": "123456789012.34567890123456789",
    "9007199254740993": "0.009007199254740993",
    "-1500000000000000000": "-1.5",
    "7/2": "≈ 0.000000000000000003",
    "-7/2": "≈ -0.000000000000000003",
    "6/2": "0.000000000000000003",
}


async def test_wei_become_eth_without_losing_a_digit(page: Page) -> None:
    assert {wei: await page.evaluate(CALL, ["ethFromWei", wei]) for wei in ETH_OF_WEI} == ETH_OF_WEI


async def test_the_documented_price_is_three_point_six_eth_an_hour(page: Page) -> None:
    assert await page.evaluate(CALL, ["ethPerHour", "1000000000000000"]) == "3.6"


async def test_a_price_per_second_that_is_not_whole_may_be_whole_by_the_hour(page: Page) -> None:
    assert await page.evaluate(CALL, ["ethPerHour", "1/3600"]) == "0.000000000000000001"
    assert await page.evaluate(CALL, ["ethPerHour", "976562500/27"]) == "≈ 0.000000130208333333"


async def test_prices_are_compared_as_exact_rationals(page: Page) -> None:
    prices = ["1000000000000000", "999999999999999/1", "1000000000000001", "2999999999999999/3"]
    signs = [await page.evaluate(CALL, ["compareWei", price, "1000000000000000"]) for price in prices]
    limit = Fraction(10**15)
    assert signs == [(Fraction(p) > limit) - (Fraction(p) < limit) for p in prices]


async def test_dollars_stand_beside_ether_where_a_rate_is_known(page: Page) -> None:
    assert await page.evaluate(CALL, ["usdPerHour", "1000000000000000", "3000.5"]) == "10801.800000"
    assert await page.evaluate(CALL, ["usdPerHour", "1/3", "3000"]) == "0.000000"
    assert await page.evaluate(CALL, ["usdPerHour", "1", None]) is None
    assert await page.evaluate(CALL, ["besideEth", "3.6 ETH", "10801.800000"]) == "3.6 ETH (10801.80 USD)"
    assert await page.evaluate(CALL, ["besideEth", "1 ETH", "0.000123"]) == "1 ETH (0.000123 USD)"
    assert await page.evaluate(CALL, ["besideEth", "1 ETH", None]) == "1 ETH"


async def test_digits_are_grouped_by_thousands(page: Page) -> None:
    assert await page.evaluate(CALL, ["groupDigits", "1234567"]) == "1\u202f234\u202f567"
    assert await page.evaluate(CALL, ["groupDigits", "999"]) == "999"


async def test_what_is_no_amount_of_wei_is_refused(page: Page) -> None:
    refused = """async (text) => {
      const { parseWei } = await import(new URL("pages/money.js", document.baseURI));
      try { parseWei(text); return false; } catch (error) { return error instanceof RangeError; }
    }"""
    for text in ("", "1.5", "1e15", "1/0", "abc"):
        assert await page.evaluate(refused, text), text
