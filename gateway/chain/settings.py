"""The flags for the chain, and their settings."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from gateway.chain.networks import CHAIN_NETWORKS, ChainNetwork
from gateway.flags import LIST, URL, Flag, FlagError, Kind, Parsed, choice, is_eth_address, parse_duration


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
    if not is_eth_address(value):
        raise ValueError(value)
    return value


def _parse_polling_interval(value: str) -> float:
    # go-livepeer's flag of this name takes whole seconds
    seconds = float(value) if value.isdecimal() else parse_duration(value)
    if not 0.1 <= seconds <= 300:
        raise ValueError(value)
    return seconds


HOURS = Kind("hours", "a number of hours such as 24 or 1.5", _parse_hours)
RPC_URLS = Kind("urls", "http or https URLs, comma-separated", _parse_rpc_urls, secret=True)
POLLING_INTERVAL = Kind("duration", "a duration from 100ms to 5m, or whole seconds", _parse_polling_interval)
ETH_ADDRESS = Kind("address", "an Ethereum address: 0x and 40 hex digits", _parse_eth_address)

CHAIN_FLAGS: tuple[Flag, ...] = (
    Flag(
        "ethUrl",
        RPC_URLS,
        None,
        "Read the chain through these RPC URLs, comma-separated for failover",
        "no chain is read",
    ),
    Flag(
        "network",
        choice("offchain", *CHAIN_NETWORKS),
        "offchain",
        "Say which network -ethUrl serves; offchain needs -ethController",
    ),
    Flag("ethController", ETH_ADDRESS, None, "Use this Controller contract", "that of -network"),
    Flag(
        "priceFeedAddr",
        ETH_ADDRESS,
        None,
        "Read what an ether is in US dollars from this Chainlink feed",
        "that of -network; with -ethUsd none is read",
    ),
    Flag(
        "minDepositHours",
        HOURS,
        "24",
        "Warn when the deposit lasts fewer hours than this at the present spending",
    ),
    Flag(
        "blockPollingInterval",
        POLLING_INTERVAL,
        "30s",
        "Read funds and redemptions this often, with 8 calls to the chain each time",
    ),
)


@dataclass(frozen=True)
class WatchSettings:
    """When to warn of a low deposit, and the seconds between two reads of the chain."""

    min_deposit_hours: Fraction
    interval: float

    @classmethod
    def from_parsed(cls, parsed: Parsed) -> WatchSettings:
        return cls(parsed["minDepositHours"], parsed["blockPollingInterval"])


@dataclass(frozen=True)
class ChainSettings:
    """RPC endpoints in the order of their use, the protocol's contracts, and how both are watched."""

    urls: tuple[str, ...]
    network: ChainNetwork
    watch: WatchSettings

    @classmethod
    def from_parsed(cls, parsed: Parsed) -> ChainSettings | None:
        """None without `-ethUrl`. Raises FlagError with a sentence for what does not fit."""
        urls: tuple[str, ...] | None = parsed["ethUrl"]
        controller: str | None = parsed["ethController"]
        if urls is None:
            for name in ("ethController", "priceFeedAddr"):
                if parsed[name] is not None:
                    raise FlagError(f"-{name} needs -ethUrl")
            return None
        network = CHAIN_NETWORKS.get(parsed["network"])
        if controller is not None:
            network = replace(network or ChainNetwork(controller), controller=controller)
        if network is not None and parsed["priceFeedAddr"] is not None:
            network = replace(network, price_feed=parsed["priceFeedAddr"])
        if network is None:
            raise FlagError("-ethUrl needs -network arbitrum-one-mainnet or -ethController")
        return cls(urls, network, WatchSettings.from_parsed(parsed))
