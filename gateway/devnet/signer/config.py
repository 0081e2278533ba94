"""Configuration of a devnet signer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from gateway.devnet.chain_clock import ChainClock


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedOrchestrator:
    """An entry of `/discover-orchestrators`: gRPC address and capabilities (empty: not given).

    One with `runners` is the URL of an orchestrator of live runners, which is asked for them.
    """

    address: str
    score: float = 1.0
    capabilities: tuple[str, ...] = ()
    runners: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerConfig:
    """Wei as integers or fractions, seconds as fractions.

    `key` is the 32-byte Ethereum key: after a restart with the same key, former states stay valid. A limit
    of None is not set; `max_price` is in wei per second of 720p30. `dialect` is `go` for go-livepeer's,
    `node` for livepeer/node's signer, which knows live runners alone.
    """

    key: bytes = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 0
    preload: Fraction = Fraction(60)
    clock: ChainClock = field(default_factory=ChainClock)
    max_ticket_ev: int | None = None
    max_total_ev: int | None = None
    max_face_value: int | None = None
    max_price: Fraction | None = None
    dialect: str = "go"
    orchestrators: Sequence[ListedOrchestrator] = ()
