"""Tokens and ticket params against the known answers."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.devnet.chain_clock import ChainClock
from gateway.devnet.orchestrator.credentials import check_signature, signed_message
from gateway.devnet.orchestrator.offer import price_info
from gateway.devnet.orchestrator.refusal import BadCredentials
from gateway.devnet.orchestrator.ticket_params import (
    ParamsIssuer,
    issue_number,
    rand_hash,
    recipient_rand,
)
from gateway.devnet.orchestrator.tokens import Tokens, token
from gateway.money import wei_per_second
from gateway.orchestrator.livepeer_pb2 import SegData
from gateway.payments.ticket import auxiliary_data, expected_value

DATA = Path(__file__).parents[1] / "data"
KNOWN = json.loads((DATA / "signatures.json").read_text())
NOW = 1_790_000_000


def test_the_auth_token_is_the_known_one() -> None:
    known = KNOWN["auth_token"]
    made = token(bytes.fromhex(known["secret"]), known["session_id"], known["expiration"])
    assert made.hex() == known["token"]


def test_recipient_rand_and_its_hash_are_the_known_ones() -> None:
    known = KNOWN["recipient_rand"]
    rand = recipient_rand(
        bytes.fromhex(known["secret"]),
        seed=int(known["seed"], 16),
        sender=bytes.fromhex(known["sender"]),
        face_value=int(known["face_value"]),
        win_prob=int(known["win_prob"]),
        expiration_block=known["expiration_block"],
        price=Fraction(known["price_wei_per_pixel"]),
        aux=auxiliary_data(known["creation_round"], bytes.fromhex(known["creation_round_block_hash"])),
    )
    assert rand == int(known["recipient_rand"])
    assert rand_hash(rand).hex() == known["recipient_rand_hash"]


def test_the_known_segment_credentials_are_accepted_and_any_change_is_not() -> None:
    known = KNOWN["segment_credentials"]
    no_segment = bytes.fromhex(known["message"])[-32:]
    credentials = SegData(
        manifestId=known["manifest_id"].encode(), hash=no_segment, sig=bytes.fromhex(known["sig"])
    )
    sender = bytes.fromhex(KNOWN["address"][2:])
    assert signed_message(credentials).hex() == known["message"]
    check_signature(credentials, sender)
    with pytest.raises(BadCredentials):
        check_signature(credentials, bytes(20))
    credentials.manifestId = b"another"
    with pytest.raises(BadCredentials):
        check_signature(credentials, sender)


def test_prices_travel_in_lowest_terms() -> None:
    for known in json.loads((DATA / "prices.json").read_text()):
        price = Fraction(known["wei_per_second"])
        info = price_info(price)
        assert wei_per_second(info.pricePerUnit, info.pixelsPerUnit) == price
    assert (price_info(Fraction(10**15)).pricePerUnit, price_info(Fraction(10**15)).pixelsPerUnit) == (
        976562500,
        27,
    )


@pytest.mark.parametrize("price", [Fraction(-1), Fraction(10**30 + 1)])
def test_a_price_that_does_not_fit_the_message_is_refused(price: Fraction) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        price_info(price)


def test_a_token_is_good_until_it_expires_and_only_where_it_was_made() -> None:
    now = [NOW]
    clock = ChainClock(now_ns=lambda: now[0] * 10**9)
    tokens = Tokens(b"secret", clock, 60)
    issued = tokens.issue()
    tokens.check(issued)
    with pytest.raises(BadCredentials, match="invalid"):
        Tokens(b"another", clock, 60).check(issued)
    now[0] += 61
    with pytest.raises(BadCredentials, match="expired"):
        tokens.check(issued)


@given(
    price=st.fractions(min_value=1, max_value=10**21, max_denominator=1000),
    seconds=st.fractions(min_value=Fraction(1, 10), max_value=100, max_denominator=100),
)
def test_a_ticket_is_worth_what_it_should_buy_and_never_less(price: Fraction, seconds: Fraction) -> None:
    issuer = ParamsIssuer(
        secret=b"s",
        recipient=bytes(20),
        clock=ChainClock(now_ns=lambda: NOW * 10**9),
        ticket_seconds=seconds,
    )
    params = issuer.issue(bytes(20), price)
    value = expected_value(int.from_bytes(params.face_value, "big"), int.from_bytes(params.win_prob, "big"))
    wanted = max(1, int(price * seconds))
    assert wanted <= value < wanted + Fraction(wanted, 10**12)


def test_later_params_have_a_higher_issue_number_and_expire_forty_blocks_ahead() -> None:
    clock = ChainClock(now_ns=lambda: NOW * 10**9)
    issuer = ParamsIssuer(secret=b"s", recipient=bytes(20), clock=clock, ticket_seconds=Fraction(1))
    first, second = (issuer.issue(bytes(20), Fraction(10**15)) for _ in range(2))
    assert issue_number(first) < issue_number(second)
    assert int.from_bytes(first.expiration_block, "big") == clock.block() + 40
    assert first.expiration_params.creation_round > 0
    assert any(first.expiration_params.creation_round_block_hash)


def test_processes_with_the_same_clock_see_the_same_block() -> None:
    def now() -> int:
        return NOW * 10**9

    fast, slow = ChainClock(block_time=0.1, now_ns=now), ChainClock(now_ns=now)
    assert fast.block() == ChainClock(block_time=0.1, now_ns=now).block()
    assert fast.block() == (NOW - fast.epoch) * 10
    assert slow.block() == (NOW - slow.epoch) // 12
    with pytest.raises(ValueError, match="0 s"):
        ChainClock(block_time=0)
