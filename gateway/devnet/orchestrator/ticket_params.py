"""Ticket params: issued without storing them, and verified by recomputing their HMAC."""

from __future__ import annotations

import hmac
import itertools
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from eth_hash.auto import keccak

from gateway.devnet.chain_clock import ChainClock
from gateway.devnet.orchestrator.tokens import minimal
from gateway.money import wei_per_pixel
from gateway.orchestrator.livepeer_pb2 import TicketExpirationParams, TicketParams
from gateway.payments.ticket import auxiliary_data, win_prob_for

LIFE_BLOCKS = 40
"""Blocks between issue and expiration."""

REDEMPTION_COST = 350_000 * 10_000_000
"""Wei that redeeming a winning ticket costs: gas x price."""

FACE_VALUE_MULTIPLE = 100

SEED_BYTES, COUNTER_BYTES = 32, 8


def recipient_rand(
    secret: bytes,
    *,
    seed: int,
    sender: bytes,
    face_value: int,
    win_prob: int,
    expiration_block: int,
    price: Fraction,
    aux: bytes,
) -> int:
    """The recipientRand of a recipientRandHash. `price` is wei per unit; it changes the number."""
    message = b"".join(
        (
            minimal(seed),
            sender,
            minimal(face_value),
            minimal(win_prob),
            minimal(expiration_block),
            minimal(price.numerator),
            minimal(price.denominator),
            aux,
        )
    )
    return int.from_bytes(hmac.digest(secret, message, "sha256"), "big")


def rand_hash(rand: int) -> bytes:
    return keccak(rand.to_bytes(32, "big"))


def expected_value(price: Fraction, ticket_seconds: Fraction) -> int:
    """A ticket's expected value in whole wei at `price` wei per second; 0 at price 0."""
    return max(1, int(price * ticket_seconds)) if price else 0


def face_value(ev: int, multiple: int = FACE_VALUE_MULTIPLE) -> int:
    """What a winning ticket pays, in wei: enough for the gas of redeeming it."""
    redeemable = multiple * REDEMPTION_COST
    return redeemable if redeemable >= ev else multiple * ev


@dataclass(slots=True, kw_only=True)
class ParamsIssuer:
    """Issues ticket params for any sender and price. `recipient` (20 bytes) is paid by the tickets."""

    secret: bytes
    recipient: bytes
    clock: ChainClock
    ticket_seconds: Fraction
    face_value_multiple: int = FACE_VALUE_MULTIPLE
    _counter: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def issue(self, sender: bytes, price: Fraction, factor: int = 1) -> TicketParams:
        """Params for tickets of `sender` at `price` wei per second, valid for 40 blocks.

        `factor` makes larger tickets.
        """
        value = expected_value(price, self.ticket_seconds * factor)
        return self.issue_for_unit(sender, wei_per_pixel(price), value)

    def issue_for_unit(self, sender: bytes, price: Fraction, ev: int) -> TicketParams:
        """Params for tickets worth `ev` wei at `price` as a `PriceInfo` has it: wei per unit."""
        face = face_value(ev, self.face_value_multiple)
        win_prob = win_prob_for(face, ev)
        # The seed holds the issue number, by which the audit tells older params from newer ones.
        seed = int.from_bytes(
            secrets.token_bytes(SEED_BYTES - COUNTER_BYTES), "big"
        ) << 8 * COUNTER_BYTES | next(self._counter)
        expiration_block = self.clock.block() + LIFE_BLOCKS
        creation_round = self.clock.round()
        block_hash = self.clock.round_block_hash(creation_round)
        rand = recipient_rand(
            self.secret,
            seed=seed,
            sender=sender,
            face_value=face,
            win_prob=win_prob,
            expiration_block=expiration_block,
            price=price,
            aux=auxiliary_data(creation_round, block_hash),
        )
        return TicketParams(
            recipient=self.recipient,
            face_value=minimal(face),
            win_prob=minimal(win_prob),
            recipient_rand_hash=rand_hash(rand),
            seed=minimal(seed),
            expiration_block=minimal(expiration_block),
            expiration_params=TicketExpirationParams(
                creation_round=creation_round, creation_round_block_hash=block_hash
            ),
        )


def issue_number(params: TicketParams) -> int:
    """The issue number of these params: later ones have higher numbers."""
    return int.from_bytes(params.seed[-COUNTER_BYTES:], "big")
