"""Tickets against the known answers of the network."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey
from eth_hash.auto import keccak

from gateway.payments import ticket
from gateway.payments.ticket import Ticket

KNOWN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "signatures.json").read_text())
KEY = PrivateKey(bytes.fromhex(KNOWN["private_key"][2:]))
SENDER = bytes.fromhex(KNOWN["address"][2:])
BLOCK_HASH = "41b1a0649752af1b28b3dc29a1556eee781e4a4c3a1f7f53f90fa834de098c4d"


def zero_ticket(**fields: Any) -> Ticket:
    zeros: dict[str, Any] = {
        "recipient": bytes(20),
        "sender": bytes(20),
        "face_value": 0,
        "win_prob": 0,
        "sender_nonce": 0,
        "recipient_rand_hash": bytes(32),
    }
    return Ticket(**(zeros | fields))


def known_ticket(nonce: int) -> Ticket:
    tickets, rand = KNOWN["tickets"], KNOWN["recipient_rand"]
    return Ticket(
        recipient=bytes.fromhex(tickets["recipient"]),
        sender=bytes.fromhex(tickets["sender"]),
        face_value=int(tickets["face_value"]),
        win_prob=int(tickets["win_prob"]),
        sender_nonce=nonce,
        recipient_rand_hash=bytes.fromhex(rand["recipient_rand_hash"]),
        creation_round=rand["creation_round"],
        creation_round_block_hash=bytes.fromhex(rand["creation_round_block_hash"]),
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"sender_nonce": 4294967295}, "e1393fc7f6de093780674022f96cb8e3872235167d037c04d554e58c0e63d280"),
        ({"sender_nonce": 1}, "ce0918ba94518293e9712effbe5fca4f1f431089833a5b8c257cb1e024595f68"),
        (
            {"face_value": 1, "win_prob": 500},
            "87ef13f2d37e4d5352a01d3c77b8179d80e0887f1953bfabfd0bfd7b0f689ddd",
        ),
        (
            {"creation_round": 10, "creation_round_block_hash": bytes.fromhex(BLOCK_HASH)},
            "e502907c16036ab3d11b78c5a2e93c20f3d6415c67f91de4ed01348182b3b2e2",
        ),
    ],
)
def test_hashes_are_the_published_ones(fields: dict[str, Any], expected: str) -> None:
    assert zero_ticket(**fields).hash.hex() == expected


@pytest.mark.parametrize(
    "known", KNOWN["tickets"]["list"], ids=lambda known: f"nonce {known['sender_nonce']}"
)
def test_tickets_hash_sign_recover_and_draw_as_known(known: dict[str, Any]) -> None:
    one = known_ticket(known["sender_nonce"])
    signature = ticket.sign(one.hash, KEY)
    assert one.hash.hex() == known["hash"]
    assert signature.hex() == known["sig"]
    assert ticket.recover(one.hash, signature) == SENDER
    rand = int(KNOWN["recipient_rand"]["recipient_rand"])
    assert ticket.wins(signature, rand, one.win_prob) is known["wins"]


def test_a_ticket_of_all_ones_always_wins_and_one_of_zero_never() -> None:
    signature = ticket.sign(b"x", KEY)
    assert ticket.wins(signature, 7, ticket.MAX_WIN_PROB)
    assert not ticket.wins(signature, 7, 0)


def test_expected_value_is_exact() -> None:
    assert known_ticket(1).expected_value == Fraction(KNOWN["tickets"]["ev_wei"])


@pytest.mark.parametrize("row", KNOWN["win_prob"], ids=lambda row: f"{row['ev']} of {row['face_value']}")
def test_win_probability_from_face_value_and_expected_value(row: dict[str, str]) -> None:
    assert ticket.win_prob_for(int(row["face_value"]), int(row["ev"])) == int(row["win_prob"])


def test_a_ticket_cannot_be_worth_more_than_it_pays() -> None:
    with pytest.raises(ValueError, match="cannot have an expected value"):
        ticket.win_prob_for(10, 11)


@pytest.mark.parametrize(
    ("message", "known"),
    [
        (keccak(KNOWN["orchestrator_request"]["message"].encode()), KNOWN["orchestrator_request"]["sig"]),
        (
            keccak(bytes.fromhex(KNOWN["segment_credentials"]["message"])),
            KNOWN["segment_credentials"]["sig"],
        ),
        (KNOWN["signer_state"]["state"].encode(), KNOWN["signer_state"]["sig"]),
    ],
    ids=["orchestrator request", "segment credentials", "signer state"],
)
def test_personal_signatures_are_the_known_ones(message: bytes, known: str) -> None:
    assert ticket.sign(message, KEY).hex() == known
    assert ticket.recover(message, bytes.fromhex(known)) == SENDER


def test_invalid_signatures_are_refused() -> None:
    good = ticket.sign(b"m", KEY)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    high_s = (order - int.from_bytes(good[32:64], "big")).to_bytes(32, "big")
    flipped_v = bytes([55 - good[64]])
    for bad, words in [
        (good[:64], "65 bytes"),
        (good[:64] + b"\0", "27 or 28"),
        (good[:32] + high_s + flipped_v, "high s"),
        (bytes(64) + b"\x1b", "no key"),
    ]:
        with pytest.raises(ValueError, match=words):
            ticket.recover(b"m", bad)


def test_a_signature_of_another_message_recovers_another_address() -> None:
    assert ticket.recover(b"other", ticket.sign(b"m", KEY)) != SENDER
