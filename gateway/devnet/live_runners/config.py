"""Configuration of an orchestrator of live runners, and its addresses once it runs."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from gateway.devnet.chain_clock import ChainClock
from gateway.devnet.live_runners.dialect import GO, Dialect
from gateway.devnet.orchestrator.conduct import HONEST, Conduct


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveConfig:
    """Seconds. `key` is the orchestrator's 32-byte Ethereum key, port 0 takes a free one.

    Apps register with `secret`. `paid` false means off-chain: sessions cost nothing. `ticket_seconds` is a
    ticket's expected value in seconds at the session's own price, `debit_rate` what is debited as a multiple
    of the price; `debit_interval` None is the dialect's.
    """

    key: bytes = field(repr=False)
    dialect: Dialect = GO
    secret: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    paid: bool = True
    host: str = "127.0.0.1"
    port: int = 0
    ticket_seconds: Fraction = Fraction(1)
    debit_interval: float | None = None
    debit_rate: Fraction = Fraction(1)
    token_life: float = 1800.0
    face_value_multiple: int = 100
    conduct: Conduct = HONEST
    clock: ChainClock = field(default_factory=ChainClock)
    static_runners: Sequence[Mapping[str, Any]] = ()
    """Runners that do not register themselves: bodies of heartbeats with `health_url`."""
    health_interval: float = 5.0
    monotonic_ns: Callable[[], int] = time.monotonic_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAddress:
    """`url` is the service URI, `address` the 0x account that is paid."""

    url: str
    address: str
    audit_url: str
