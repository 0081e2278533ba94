"""The ABI of the contracts' functions and events that are read here.

A static struct is written as its fields, which have the same encoding.
"""

from __future__ import annotations

from typing import Any

Abi = list[dict[str, Any]]


def _function(name: str, takes: str = "", gives: str = "") -> dict[str, Any]:
    return {
        "type": "function",
        "name": name,
        "stateMutability": "view",
        "inputs": [{"name": f"in{n}", "type": kind} for n, kind in enumerate(takes.split())],
        "outputs": [{"name": f"out{n}", "type": kind} for n, kind in enumerate(gives.split())],
    }


def _event(name: str, fields: str) -> dict[str, Any]:
    """`fields` as `type name`, comma-separated; a name that ends in `*` is indexed."""
    inputs = [field.split() for field in fields.split(",")]
    return {
        "type": "event",
        "name": name,
        "anonymous": False,
        "inputs": [
            {"type": kind, "name": name.rstrip("*"), "indexed": name.endswith("*")} for kind, name in inputs
        ],
    }


CONTROLLER: Abi = [_function("getContract", "bytes32", "address")]

BONDING_MANAGER: Abi = [
    _function("getFirstTranscoderInPool", gives="address"),
    _function("getNextTranscoderInPool", "address", "address"),
    _function("getTranscoderPoolSize", gives="uint256"),
]

SERVICE_REGISTRY: Abi = [_function("getServiceURI", "address", "string")]

ROUNDS_MANAGER: Abi = [
    _function("blockNum", gives="uint256"),
    _function("lastInitializedRound", gives="uint256"),
]

TICKET_BROKER: Abi = [
    _function("getSenderInfo", "address", "uint256 uint256 uint256 uint256"),
    _event(
        "WinningTicketRedeemed",
        "address sender*,address recipient*,uint256 faceValue,uint256 winProb,uint256 senderNonce,"
        "uint256 recipientRand,bytes auxData",
    ),
    _event("WinningTicketTransfer", "address sender*,address recipient*,uint256 amount"),
]
