"""Checks of tickets: first each by itself, then against the nonces received before."""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from dataclasses import dataclass, field
from fractions import Fraction

from google.protobuf.message import DecodeError

from gateway.devnet.chain_clock import ChainClock
from gateway.devnet.orchestrator.refusal import NonceSeen, TicketRefused, UnreadablePayment
from gateway.devnet.orchestrator.ticket_params import issue_number, rand_hash, recipient_rand
from gateway.money import wei_per_pixel, wei_per_second
from gateway.orchestrator.livepeer_pb2 import Payment
from gateway.payments.ticket import Ticket, recover, wins

MAX_NONCES = 600
"""Limit of nonces for one recipientRandHash."""

REMEMBER_SECONDS = 600
"""Nonces are kept for this long after their params expired, to recognise late repeats."""


@dataclass(frozen=True, slots=True)
class WinningTicket:
    """What the chain needs to pay a winning ticket."""

    ticket: Ticket
    signature: bytes
    recipient_rand: int


@dataclass(frozen=True, slots=True)
class CheckedTicket:
    """One ticket after the stateless checks; `fault` says why it is invalid."""

    nonce: int
    winning: WinningTicket | None
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The tickets of one payment. `price` is wei per second, `value` one ticket's expected value in wei."""

    price: Fraction
    value: Fraction
    rand_hash: bytes
    expiration_block: int
    issue_number: int
    tickets: list[CheckedTicket]


def read_payment(header: str) -> Payment:
    """The payment in a `Livepeer-Payment` header; an empty header is an empty payment."""
    try:
        return Payment.FromString(base64.b64decode(header, validate=True))
    except (binascii.Error, ValueError, DecodeError) as error:
        raise UnreadablePayment("the payment cannot be read") from error


def check_batch(payment: Payment, *, recipient: bytes, secret: bytes) -> Batch:
    """The stateless checks. They take milliseconds for 100 tickets: call this in a thread.

    Raises TicketRefused where no ticket of the payment can be valid.
    """
    if not payment.HasField("ticket_params"):
        raise TicketRefused("the payment has no ticket params")
    params = payment.ticket_params
    try:
        price = wei_per_second(payment.expected_price.pricePerUnit, payment.expected_price.pixelsPerUnit)
        first = _ticket(payment, 0)
        rand = recipient_rand(
            secret,
            seed=int.from_bytes(params.seed, "big"),
            sender=payment.sender,
            face_value=first.face_value,
            win_prob=first.win_prob,
            expiration_block=int.from_bytes(params.expiration_block, "big"),
            price=wei_per_pixel(price),
            aux=first.aux,
        )
    except (ValueError, OverflowError) as error:
        raise TicketRefused("the payment's price or ticket params are none") from error
    if params.recipient != recipient:
        raise TicketRefused("invalid ticket recipient")
    if len(payment.sender) != 20 or not any(payment.sender):
        raise TicketRefused("invalid ticket sender")
    if rand_hash(rand) != params.recipient_rand_hash:
        raise TicketRefused("invalid recipientRand for ticket recipientRandHash")
    return Batch(
        price=price,
        value=first.expected_value,
        rand_hash=params.recipient_rand_hash,
        expiration_block=int.from_bytes(params.expiration_block, "big"),
        issue_number=issue_number(params),
        tickets=[
            _check(_ticket(payment, one.sender_nonce), one.sig, rand) for one in payment.ticket_sender_params
        ],
    )


def _check(ticket: Ticket, signature: bytes, rand: int) -> CheckedTicket:
    try:
        signed = recover(ticket.hash, signature) == ticket.sender
    except ValueError:
        signed = False
    if not signed:
        return CheckedTicket(ticket.sender_nonce, None, fault="invalid ticket signature")
    won = wins(signature, rand, ticket.win_prob)
    return CheckedTicket(ticket.sender_nonce, WinningTicket(ticket, signature, rand) if won else None)


def _ticket(payment: Payment, nonce: int) -> Ticket:
    params = payment.ticket_params
    return Ticket(
        recipient=params.recipient,
        sender=payment.sender,
        face_value=int.from_bytes(params.face_value, "big"),
        win_prob=int.from_bytes(params.win_prob, "big"),
        sender_nonce=nonce,
        recipient_rand_hash=params.recipient_rand_hash,
        creation_round=payment.expiration_params.creation_round,
        creation_round_block_hash=payment.expiration_params.creation_round_block_hash,
    )


@dataclass(slots=True)
class _Received:
    expiration_block: int
    nonces: set[int] = field(default_factory=set)


class NonceBook:
    """The received nonces by recipientRandHash, until some time after their params expired."""

    def __init__(self, clock: ChainClock) -> None:
        self._clock = clock
        self._received: OrderedDict[bytes, _Received] = OrderedDict()

    def receive(self, batch: Batch, ticket: CheckedTicket) -> None:
        """Note one ticket's nonce. Raises NonceSeen or TicketRefused.

        The nonce is noted before the expiration is checked, so an expired ticket cannot be sent again.
        """
        if ticket.fault:
            raise TicketRefused(ticket.fault)
        self._forget()
        received = self._received.setdefault(batch.rand_hash, _Received(batch.expiration_block))
        if ticket.nonce in received.nonces:
            raise NonceSeen
        if len(received.nonces) >= MAX_NONCES:
            raise TicketRefused("invalid ticket senderNonce: too many values sent")
        received.nonces.add(ticket.nonce)
        if batch.expiration_block <= self._clock.block():
            raise TicketRefused("ticket params expired")

    def _forget(self) -> None:
        horizon = self._clock.block() - int(REMEMBER_SECONDS / self._clock.block_time)
        while self._received:
            oldest = next(iter(self._received.values()))
            if oldest.expiration_block >= horizon:
                return
            self._received.popitem(last=False)
