"""A Chainlink feed: what its two answers say, and what is no price."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

import pytest
from eth_utils import keccak
from hypothesis import given
from hypothesis import strategies as st

from gateway.chain.errors import ChainUnreachable
from gateway.chain.price_feed import DECIMALS, LATEST_ROUND_DATA, PriceFeed, rate_of
from gateway.chain.rpc import Endpoints
from gateway.eth_rate import EthRate

AT = 1_800_000_000


def words(*values: int) -> str:
    return "0x" + "".join((value % 2**256).to_bytes(32, "big").hex() for value in values)


def round_data(answer: int, updated_at: int = AT) -> str:
    return words(7, answer, updated_at - 5, updated_at, 7)


def test_the_calls_are_those_of_the_interface() -> None:
    for data, signature in ((LATEST_ROUND_DATA, "latestRoundData()"), (DECIMALS, "decimals()")):
        assert data == "0x" + keccak(text=signature)[:4].hex()


@given(st.integers(1, 2**127), st.integers(0, 30))
def test_a_price_is_exact(answer: int, places: int) -> None:
    assert rate_of(round_data(answer), words(places)) == (Fraction(answer, 10**places), AT)


@pytest.mark.parametrize(
    ("answered", "decimals"),
    [
        (round_data(0), words(8)),
        (round_data(-1), words(8)),
        (round_data(5, 2**50), words(8)),
        (round_data(5), words(31)),
        ("0x", "0x"),
        (words(1, 2, 3), words(8)),
        (None, words(8)),
        (round_data(5), 8),
        (round_data(5) + "00", words(8)),
    ],
)
def test_what_is_no_price_is_refused(answered: Any, decimals: Any) -> None:
    with pytest.raises(ValueError, match="feed"):
        rate_of(answered, decimals)


class Chain:
    """Answers with what it is told to."""

    def __init__(self) -> None:
        self.answer: list[Any] | Exception = [round_data(3000_12345678), words(8)]
        self.calls: list[Any] = []

    async def ask_all(self, calls: list[Any]) -> list[Any]:
        self.calls = calls
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.asyncio
async def test_the_rate_is_what_the_feed_said_last_and_when() -> None:
    chain, now = Chain(), [float(AT)]
    rate = EthRate(expected=True, wall=lambda: now[0])
    feed = PriceFeed(cast(Endpoints, chain), "0xFEED", rate)
    await feed.read()
    assert [call[1][0]["to"] for call in chain.calls] == ["0xFEED"] * 2
    assert rate.current == Fraction("3000.12345678")
    for broken in (ChainUnreachable("nobody answers"), [round_data(-5), words(8)]):
        chain.answer = broken
        now[0] += 3600
        await feed.read()
    assert (rate.current, rate.last) == (None, Fraction("3000.12345678"))
    refusal = rate.refusal()
    assert refusal is not None
    assert "no price" in refusal
