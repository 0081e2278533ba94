"""Configuration of a devnet orchestrator, and its addresses once it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from gateway.devnet.chain_clock import ChainClock
from gateway.devnet.orchestrator.conduct import HONEST, Conduct
from gateway.devnet.orchestrator.offer import ModelTerms
from gateway.devnet.settings import RELEASES


@dataclass(frozen=True, slots=True, kw_only=True)
class OnChain:
    """A chain's RPC endpoint and the address of the Controller contract on it."""

    url: str
    controller: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestratorConfig:
    """Prices in wei per second of 720p30; `price_wei_per_second` None means off-chain: no price, no tickets.

    `key` is the orchestrator's 32-byte Ethereum key. `ticket_seconds` is a ticket's expected value in
    seconds at its own price, `debit_interval` and `token_life` are seconds, `debit_rate` is what it debits
    as a multiple of the agreed price. Port 0 takes a free one.
    """

    key: bytes = field(repr=False)
    runner_url: str
    price_wei_per_second: Fraction | None
    model: str = "comfystream"
    pipeline: str = "live-video-to-video"
    warm: bool = True
    other_models: Mapping[str, ModelTerms] = field(default_factory=dict)
    """What it offers beside `model`, by their ids."""
    capacity: int = 64
    host: str = "127.0.0.1"
    port: int = 0
    ticket_seconds: Fraction = Fraction(1)
    debit_interval: float = 1.0
    debit_rate: Fraction = Fraction(1)
    token_life: float = 1800.0
    release: str = RELEASES["0.9"]
    """The go-livepeer release that it behaves like; before 0.9 there is no `/refresh-payment`."""
    recipient: bytes | None = None
    """The 20-byte address that tickets pay, where it is another than the key's: a cold wallet."""
    auto_adjust_price: bool = False
    """Advertise the price with what redeeming a ticket costs on top: a hundredth, by default."""
    conduct: Conduct = HONEST
    face_value_multiple: int = 100
    """A winning ticket pays this many times its expected value."""
    chain: OnChain | None = None
    """Where winning tickets are redeemed; None: they are only counted."""
    clock: ChainClock = field(default_factory=ChainClock)
    monotonic_ns: Callable[[], int] = time.monotonic_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestratorAddress:
    """`addr` is the listening `host:port`, `url` the service URI, `address` the 0x account that signs.

    `recipient` is the 0x account that tickets pay.
    """

    addr: str
    url: str
    address: str
    recipient: str
    audit_url: str
