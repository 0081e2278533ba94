"""Networks that `-network` knows by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChainNetwork:
    """The addresses of the protocol's contracts.

    `chain_id` None: that of the first endpoint that answers. `ai_registry` None: the contract that the
    Controller has under the name AIServiceRegistry.
    """

    controller: str
    chain_id: int | None = None
    ai_registry: str | None = None
    price_feed: str | None = None
    """Chainlink's feed of ETH to USD."""


CHAIN_NETWORKS = {
    "arbitrum-one-mainnet": ChainNetwork(
        controller="0xD8E8328501E9645d16Cf49539efC04f734606ee4",
        chain_id=42161,
        ai_registry="0x04C0b249740175999E5BF5c9ac1dA92431EF34C5",
        price_feed="0x639Fe6ab55C921f74e7fac1ee960C0B6293ba612",
    )
}
