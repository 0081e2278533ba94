"""What a devnet orchestrator is started with, and where it is found once it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from gateway.devnet.chain_clock import ChainClock


@dataclass(frozen=True, slots=True, kw_only=True)
class OnChain:
    """A chain's RPC endpoint, and the protocol's Controller on it."""

    url: str
    controller: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestratorConfig:
    """Prices in wei per second of 720p30; `price_wei_per_second` None means off-chain: no price, no tickets.

    `key` is the 32-byte Ethereum key that gives the orchestrator its address. `ticket_seconds` is what one
    ticket's expected value buys at its own price, `debit_interval` and `token_life` are seconds,
    `debit_rate` is how fast it debits against what it advertises (1: honestly). Port 0 takes a free one.
    """

    key: bytes = field(repr=False)
    runner_url: str
    price_wei_per_second: Fraction | None
    model: str = "comfystream"
    pipeline: str = "live-video-to-video"
    warm: bool = True
    capacity: int = 64
    host: str = "127.0.0.1"
    port: int = 0
    ticket_seconds: Fraction = Fraction(1)
    debit_interval: float = 1.0
    debit_rate: Fraction = Fraction(1)
    token_life: float = 1800.0
    face_value_multiple: int = 100
    """How many times its expected value a winning ticket pays."""
    chain: OnChain | None = None
    """Where winning tickets are redeemed; None: they are only counted."""
    clock: ChainClock = field(default_factory=ChainClock)
    monotonic_ns: Callable[[], int] = time.monotonic_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestratorAddress:
    """`addr` is where it listens as `host:port`, `url` the service URI there, `address` the 0x account."""

    addr: str
    url: str
    address: str
    audit_url: str
