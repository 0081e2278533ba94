"""The flags of the chain."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gateway.chain.settings import CHAIN_FLAGS, ChainSettings
from gateway.flags import FlagError, parse_flags

CONTROLLER = "0x" + "ab" * 20


def read(*argv: str) -> ChainSettings | None:
    return ChainSettings.from_parsed(parse_flags(CHAIN_FLAGS, argv, {}, program="test"))


def test_without_a_url_there_is_no_chain() -> None:
    assert read() is None
    assert read("-network", "arbitrum-one-mainnet") is None


def test_the_network_by_name_brings_its_chain_and_its_contracts() -> None:
    chain = read("-ethUrl", "https://a.example/key,b.example", "-network", "arbitrum-one-mainnet")
    assert chain is not None
    assert chain.urls == ("https://a.example/key", "https://b.example")
    assert chain.network.chain_id == 42161
    assert chain.watch.min_deposit_hours == 24


def test_another_controller_goes_before_the_networks() -> None:
    chain = read("-ethUrl", "http://127.0.0.1:8545", "-ethController", CONTROLLER, "-minDepositHours", "1.5")
    assert chain is not None
    assert (chain.network.controller, chain.network.chain_id) == (CONTROLLER, None)
    assert chain.watch.min_deposit_hours == Fraction(3, 2)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["-ethUrl", "http://127.0.0.1:1"], "-ethController"),
        (["-ethController", CONTROLLER], "-ethUrl"),
        (["-ethUrl", "ftp://secret-key"], "-ethUrl"),
        (["-ethUrl", ","], "-ethUrl"),
        (["-ethUrl", "http://x", "-ethController", "0x12"], "0x12"),
        (["-ethUrl", "http://x", "-network", "moon"], "moon"),
        (["-minDepositHours", "-3"], "-3"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(argv: list[str], words: str) -> None:
    with pytest.raises(FlagError, match=words) as caught:
        read(*argv)
    assert "secret-key" not in str(caught.value)
