"""Exact models of a signer and an orchestrator, for tests of payment sessions.

Written from the protocol's rules alone. Tickets are real, signed with a test key.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor

from coincurve import PrivateKey

from gateway.money import PIXELS_PER_SECOND
from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.info import OrchestratorInfo, PriceUnit
from gateway.payments import ticket
from gateway.payments.ticket import Ticket
from signer_client import LivePayment, SignerState

KEY = PrivateKey(bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"))
SENDER = ticket.address_of(KEY.public_key)
SENDER_TEXT = "0x" + SENDER.hex()
ORCHESTRATOR = bytes.fromhex("00112233445566778899aabbccddeeff00112233")
PRICE = 10**15
MANIFEST = "5fa1b2c3"


def orchestrator_info(
    *,
    price: Fraction | int = PRICE,
    ticket_seconds: Fraction | int = 1,
    rand: int = 1,
    address: bytes = ORCHESTRATOR,
    recipient: bytes | None = None,
    unit: PriceUnit = PriceUnit.PIXELS,
    expiration_block: int = 258,
    session_id: str = "",
) -> OrchestratorInfo:
    """An info whose tickets always win, so that their expected value is their face value.

    A ticket pays for `ticket_seconds`; each `rand` makes other ticket params. `recipient` is by
    default `address`.
    """
    per_unit = Fraction(price) / (PIXELS_PER_SECOND if unit is PriceUnit.PIXELS else 1)
    face_value = int(Fraction(price) * Fraction(ticket_seconds))
    message = livepeer_pb2.OrchestratorInfo(
        transcoder="https://127.0.0.1:8935",
        address=address,
        price_info=livepeer_pb2.PriceInfo(
            pricePerUnit=per_unit.numerator, pixelsPerUnit=per_unit.denominator
        ),
        ticket_params=livepeer_pb2.TicketParams(
            recipient=address if recipient is None else recipient,
            face_value=face_value.to_bytes(32, "big").lstrip(b"\0"),
            win_prob=ticket.MAX_WIN_PROB.to_bytes(32, "big"),
            recipient_rand_hash=rand.to_bytes(32, "big"),
            seed=rand.to_bytes(32, "big").lstrip(b"\0"),
            expiration_block=expiration_block.to_bytes(32, "big").lstrip(b"\0"),
            expiration_params=livepeer_pb2.TicketExpirationParams(
                creation_round=7, creation_round_block_hash=bytes([9]) * 32
            ),
        ),
        auth_token=livepeer_pb2.AuthToken(token=b"t", session_id=session_id or f"s{rand}", expiration=1),
    )
    return OrchestratorInfo.parse(message.SerializeToString(), unit=unit)


class Status(Exception):
    """A model's answer other than 200."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def signed_payment(
    info: OrchestratorInfo, first_nonce: int, count: int, state: str = "{}", key: PrivateKey = KEY
) -> LivePayment:
    """A payment as a signer makes it, with real signatures."""
    return LivePayment(
        payment=_payment(info.raw, first_nonce, count, key.secret),
        seg_creds=base64.b64encode(b"creds").decode(),
        state=SignerState(base64.b64encode(state.encode()).decode(), base64.b64encode(b"sig").decode()),
    )


@lru_cache(maxsize=20_000)
def _payment(raw: bytes, first_nonce: int, count: int, secret: bytes) -> str:
    """The header's value; cached, since random histories sign the same tickets many times."""
    info, key = OrchestratorInfo.parse(raw), PrivateKey(secret)
    params = livepeer_pb2.TicketParams()
    params.CopyFrom(info.message.ticket_params)
    expiry = livepeer_pb2.TicketExpirationParams()
    expiry.CopyFrom(params.expiration_params)
    params.ClearField("expiration_params")
    message = livepeer_pb2.Payment(
        ticket_params=params,
        sender=SENDER,
        expiration_params=expiry,
        expected_price=info.message.price_info,
    )
    for nonce in range(first_nonce, first_nonce + count):
        made = Ticket(
            recipient=params.recipient,
            sender=SENDER,
            face_value=int.from_bytes(params.face_value, "big"),
            win_prob=int.from_bytes(params.win_prob, "big"),
            sender_nonce=nonce,
            recipient_rand_hash=params.recipient_rand_hash,
            creation_round=expiry.creation_round,
            creation_round_block_hash=expiry.creation_round_block_hash,
        )
        message.ticket_sender_params.add(sender_nonce=nonce, sig=ticket.sign(made.hash, key))
    return base64.b64encode(message.SerializeToString()).decode()


@dataclass
class SignerModel:
    """A signer. It is stateless: everything is in the state that it returns. Time is in seconds."""

    preload: int = 60
    null_states: int = 0
    sequences_seen: list[int] = field(default_factory=list)

    def sign(
        self,
        info: OrchestratorInfo,
        state: SignerState | None,
        now: Fraction,
        *,
        instead: int | None = None,
    ) -> LivePayment:
        """The payment that is due, or a dishonest one with `instead` tickets.

        A clock at or before the last update bills the preload again.
        """
        assert info.price is not None
        assert info.ticket_ev is not None
        ev, rand = info.ticket_ev, info.message.ticket_params.recipient_rand_hash.hex()
        if state is None:
            self.null_states += 1
            former = {
                "seq": 0,
                "updated": str(now - self.preload),
                "balance": "0",
                "price": str(info.price),
                "nonce": 0,
                "rand": rand,
                "billed": "0",
            }
        else:
            former = json.loads(base64.b64decode(state.state))
            self.sequences_seen.append(former["seq"])
        price = Fraction(former["price"])
        if info.price > price:
            raise Status(481)
        elapsed = now - Fraction(former["updated"])
        if elapsed <= 0:
            elapsed = Fraction(self.preload)
        fee = floor(PIXELS_PER_SECOND * elapsed) * price / PIXELS_PER_SECOND
        balance, needed = Fraction(former["balance"]), max(fee, ev)
        count = ceil((needed - balance) / ev) if instead is None else instead
        if count <= 0:
            raise Status(482)
        if count > 100:
            raise Status(400)
        nonce = former["nonce"] if former["rand"] == rand else 0
        new_state = {
            "seq": former["seq"] + 1,
            "updated": str(now),
            "balance": str(balance + count * ev - fee),
            "price": str(price),
            "nonce": nonce + count,
            "rand": rand,
            "billed": str(Fraction(former["billed"]) + elapsed),
        }
        return signed_payment(info, nonce + 1, count, json.dumps(new_state))


@dataclass
class OrchestratorModel:
    """An orchestrator: it credits a nonce once, and answers each payment with new ticket params."""

    ticket_seconds: Fraction | int = 1
    price: Fraction | int = PRICE
    recipient: bytes = ORCHESTRATOR
    """What tickets pay: another address than the node's where it has a hot and a cold wallet."""
    credited: Fraction = Fraction(0)
    duplicates: int = 0
    _rand: int = 1
    _forgotten: int = 0
    _seen: set[tuple[bytes, int]] = field(default_factory=set)

    def info(self) -> OrchestratorInfo:
        return orchestrator_info(
            price=self.price, ticket_seconds=self.ticket_seconds, rand=self._rand, recipient=self.recipient
        )

    def fresh_info(self) -> OrchestratorInfo:
        self._rand += 1
        return self.info()

    def restart(self) -> None:
        """Restart with another secret and no memory: all params so far become invalid."""
        self._forgotten = self._rand
        self._seen.clear()

    def accept(self, live: LivePayment) -> OrchestratorInfo | None:
        """The info for the next payment; None where the nonces were seen. Status for invalid params."""
        message = livepeer_pb2.Payment.FromString(live.payment_bytes)
        rand_hash = message.ticket_params.recipient_rand_hash
        if int.from_bytes(rand_hash, "big") <= self._forgotten:
            raise Status(400)
        nonces = {(rand_hash, one.sender_nonce) for one in message.ticket_sender_params}
        assert max(nonce for _, nonce in nonces) <= 600, "more tickets than one hash takes"
        if nonces & self._seen:
            self.duplicates += 1
            return None
        self._seen |= nonces
        face_value = int.from_bytes(message.ticket_params.face_value, "big")
        win_prob = int.from_bytes(message.ticket_params.win_prob, "big")
        self.credited += len(nonces) * ticket.expected_value(face_value, win_prob)
        return self.fresh_info()
