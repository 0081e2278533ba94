"""The rate of ETH to USD from a Chainlink price feed on chain (AggregatorV3Interface)."""

from __future__ import annotations

import asyncio
import re
from fractions import Fraction
from typing import NoReturn

import structlog

from gateway.chain.errors import ChainError
from gateway.chain.rpc import Endpoints
from gateway.eth_rate import EthRate

LATEST_ROUND_DATA = "0xfeaf968c"
DECIMALS = "0x313ce567"
"""The first four bytes of keccak256 of `latestRoundData()` and of `decimals()`."""
REFRESH = 60.0
"""Seconds between two reads."""
WORD = 64
"""Hex digits of 32 bytes."""
MOST_DECIMALS = 30

log = structlog.get_logger("chain")


class PriceFeed:
    """Reads the contract at `address` through `endpoints`, and tells `rate`."""

    def __init__(
        self, endpoints: Endpoints, address: str, rate: EthRate, *, interval: float = REFRESH
    ) -> None:
        self._endpoints = endpoints
        self._address = address
        self._rate = rate
        self._interval = interval

    async def run(self) -> NoReturn:
        """Read until cancelled."""
        while True:
            await self.read()
            await asyncio.sleep(self._interval)

    async def read(self) -> None:
        """Take the newest rate; where there is none, the former one stays."""
        calls = [
            ("eth_call", [{"to": self._address, "data": data}, "latest"])
            for data in (LATEST_ROUND_DATA, DECIMALS)
        ]
        try:
            answered, decimals = await self._endpoints.ask_all(calls)
            usd, at = rate_of(answered, decimals)
        except (ChainError, ValueError) as error:
            if self._rate.trouble != str(error):
                log.warning("price feed not read", feed=self._address, error=str(error))
            self._rate.trouble = str(error)
            return
        self._rate.update(usd, at)


def rate_of(answered: object, decimals: object) -> tuple[Fraction, int]:
    """Dollars for an ether, and since when in Unix seconds, of what both calls gave. Raises ValueError."""
    places = _words(decimals, 1)[0]
    _, answer, _, updated_at, _ = _words(answered, 5)
    if places > MOST_DECIMALS or not 0 < answer < 2**128 or not 0 < updated_at < 2**40:
        raise ValueError("the price feed gives no price")
    return Fraction(answer, 10**places), updated_at


def _words(value: object, count: int) -> list[int]:
    """So many words of 32 bytes, read as unsigned numbers: a negative price is a very large one."""
    if not isinstance(value, str) or not re.fullmatch(rf"0x[0-9a-fA-F]{{{count * WORD}}}", value):
        raise ValueError("no price feed is at -priceFeedAddr")
    return [int(value[place : place + WORD], 16) for place in range(2, len(value), WORD)]
