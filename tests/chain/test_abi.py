"""Selectors and topics are those of the published contracts on Arbitrum One."""

from __future__ import annotations

import pytest
from eth_utils.abi import event_abi_to_log_topic, function_abi_to_4byte_selector

from gateway.chain import abi
from gateway.chain.networks import CHAIN_NETWORKS

PUBLISHED = {
    "getContract": "e16c7d98",
    "getFirstTranscoderInPool": "88a6c749",
    "getNextTranscoderInPool": "235c9603",
    "getTranscoderPoolSize": "2a4e0d55",
    "getServiceURI": "214c2a4b",
    "blockNum": "8ae63d6d",
    "lastInitializedRound": "8807f36e",
    "getSenderInfo": "e1a589da",
    "WinningTicketRedeemed": "c389eb51ed006dbf2528507f010efdf5225ea596e1e1741d74f550dab1925ee7",
    "WinningTicketTransfer": "8b87351a208c06e3ceee59d80725fd77a23b4129e1b51ca231fc89b40712649c",
}
ENTRIES = [
    entry
    for contract in (
        abi.CONTROLLER,
        abi.BONDING_MANAGER,
        abi.SERVICE_REGISTRY,
        abi.ROUNDS_MANAGER,
        abi.TICKET_BROKER,
    )
    for entry in contract
]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: str(entry["name"]))
def test_it_is_asked_for_by_its_published_name(entry: dict[str, object]) -> None:
    hashed = function_abi_to_4byte_selector if entry["type"] == "function" else event_abi_to_log_topic
    assert hashed(entry).hex() == PUBLISHED[str(entry["name"])]  # type: ignore[arg-type]


def test_the_network_by_name_is_the_published_deployment() -> None:
    network = CHAIN_NETWORKS["arbitrum-one-mainnet"]
    assert network.chain_id == 42161
    assert network.controller == "0xD8E8328501E9645d16Cf49539efC04f734606ee4"
    assert network.ai_registry == "0x04C0b249740175999E5BF5c9ac1dA92431EF34C5"
