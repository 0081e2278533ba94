"""The flags that concern the chain, and the settings that come out of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from gateway.chain.networks import CHAIN_NETWORKS, ChainNetwork
from gateway.flags import LIST, URL, Flag, FlagError, Kind, Parsed, choice


def _parse_hours(value: str) -> Fraction:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        raise ValueError(value)
    return Fraction(value)


def _parse_rpc_urls(value: str) -> tuple[str, ...]:
    urls = LIST.parse(value)
    if not urls:
        raise ValueError(value)
    return tuple(URL.parse(url) for url in urls)


def _parse_eth_address(value: str) -> str:
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", value):
        raise ValueError(value)
    return value


HOURS = Kind("hours", "a number of hours such as 24 or 1.5", _parse_hours)
RPC_URLS = Kind("urls", "http or https URLs, comma-separated", _parse_rpc_urls, secret=True)
ETH_ADDRESS = Kind("address", "an Ethereum address: 0x and 40 hex digits", _parse_eth_address)

CHAIN_FLAGS: tuple[Flag, ...] = (
    Flag(
        "ethUrl",
        RPC_URLS,
        None,
        "RPC endpoints of the chain, several for failover: where orchestrators and the signer's funds are",
    ),
    Flag("network", choice("offchain", *CHAIN_NETWORKS), "offchain", "the network that -ethUrl is on"),
    Flag("ethController", ETH_ADDRESS, None, "the Controller contract, for other networks"),
    Flag("minDepositHours", HOURS, "24", "warn when the deposit lasts fewer hours at the present burn"),
)


@dataclass(frozen=True)
class ChainSettings:
    """RPC endpoints in their order, where the protocol is, and how many hours the deposit should last."""

    urls: tuple[str, ...]
    network: ChainNetwork
    min_deposit_hours: Fraction

    @classmethod
    def from_parsed(cls, parsed: Parsed) -> ChainSettings | None:
        """None without `-ethUrl`. Raises FlagError with a sentence for what does not fit."""
        urls: tuple[str, ...] | None = parsed["ethUrl"]
        controller: str | None = parsed["ethController"]
        if urls is None:
            if controller is not None:
                raise FlagError("-ethController needs -ethUrl beside it")
            return None
        network = CHAIN_NETWORKS.get(parsed["network"])
        if controller is not None:
            network = replace(network or ChainNetwork(controller), controller=controller)
        if network is None:
            raise FlagError("-ethUrl needs -network arbitrum-one-mainnet or -ethController beside it")
        return cls(urls, network, parsed["minDepositHours"])
