"""The networks that are known by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChainNetwork:
    """Where the protocol is. None: `chain_id` is whatever the first endpoint says, `ai_registry` is asked for
    at the Controller under the name AIServiceRegistry."""

    controller: str
    chain_id: int | None = None
    ai_registry: str | None = None


CHAIN_NETWORKS = {
    "arbitrum-one-mainnet": ChainNetwork(
        controller="0xD8E8328501E9645d16Cf49539efC04f734606ee4",
        chain_id=42161,
        ai_registry="0x04C0b249740175999E5BF5c9ac1dA92431EF34C5",
    )
}
