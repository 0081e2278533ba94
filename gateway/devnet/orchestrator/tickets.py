"""Checks of tickets: first each by itself, then against the nonces received before."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from fractions import Fraction

from google.protobuf.message import DecodeError

from gateway.devnet.chain_clock import ChainClock
from gateway.devnet.go_texts import BAD_PROTOBUF, decode_base64
from gateway.devnet.orchestrator.refusal import NonceSeen, ParamsExpired, TicketRefused, UnreadablePayment
from gateway.devnet.orchestrator.ticket_params import issue_number, rand_hash, recipient_rand
from gateway.eth_address import checksummed
from gateway.money import wei_per_pixel, wei_per_second
from gateway.orchestrator.livepeer_pb2 import Payment
from gateway.payments.ticket import Ticket, recover, wins

MAX_NONCES = 600
"""Limit of nonces for one recipientRandHash."""


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
    """The tickets of one payment. `sender` is 20 bytes, `value` one ticket's expected value in wei."""

    sender: bytes
    value: Fraction
    rand_hash: bytes
    expiration_block: int
    issue_number: int
    tickets: list[CheckedTicket]


def read_payment(header: str) -> Payment:
    """The payment in a `Livepeer-Payment` header; an empty header is an empty payment."""
    try:
        return Payment.FromString(decode_base64(header))
    except ValueError as error:
        raise UnreadablePayment(f"base64 decode error: {error}") from error
    except DecodeError as error:
        raise UnreadablePayment(f"protobuf unmarshal error: {BAD_PROTOBUF}") from error


def expected_price(payment: Payment) -> Fraction:
    """The price that the payment names, in wei per second. Raises TicketRefused."""
    if not payment.HasField("expected_price"):
        raise TicketRefused('invalid expected price sent with payment err="expected price is nil"')
    if payment.expected_price.pixelsPerUnit == 0:
        raise TicketRefused('invalid expected price sent with payment err="pixels per unit is 0"')
    try:
        return wei_per_second(payment.expected_price.pricePerUnit, payment.expected_price.pixelsPerUnit)
    except ValueError as error:
        raise TicketRefused(str(error)) from error


def check_batch(payment: Payment, *, recipient: bytes, secret: bytes) -> Batch:
    """The stateless checks. They take milliseconds for 100 tickets: call this in a thread.

    Raises TicketRefused where no ticket of the payment can be valid.
    """
    params = payment.ticket_params
    price = expected_price(payment)
    try:
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
        sender=payment.sender,
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
    """The received nonces by recipientRandHash, until their params have expired."""

    def __init__(self, clock: ChainClock) -> None:
        self._clock = clock
        self._block = 0
        """The block up to which expired params are forgotten."""
        self._received: OrderedDict[bytes, _Received] = OrderedDict()

    def receive(self, batch: Batch, ticket: CheckedTicket) -> None:
        """Note one ticket's nonce. Raises NonceSeen, ParamsExpired or TicketRefused.

        The nonce is noted before the expiration is checked, so an expired ticket cannot be sent again.
        With the next block after that it is forgotten.
        """
        if ticket.fault:
            raise TicketRefused(ticket.fault)
        self._forget()
        received = self._received.setdefault(batch.rand_hash, _Received(batch.expiration_block))
        if ticket.nonce in received.nonces:
            raise NonceSeen(f"invalid ticket senderNonce: already seen {_of(batch, ticket)}")
        if len(received.nonces) >= MAX_NONCES:
            raise TicketRefused(f"invalid ticket senderNonce: too many values {_of(batch, ticket)}")
        received.nonces.add(ticket.nonce)
        if batch.expiration_block <= self._clock.block():
            raise ParamsExpired("TicketParams expired")

    def check(self, batch: Batch) -> None:
        """Raise what `receive` would for any ticket of the batch, noting nothing."""
        received = self._received.get(batch.rand_hash)
        seen = set() if received is None else set(received.nonces)
        for ticket in batch.tickets:
            if ticket.fault:
                raise TicketRefused(ticket.fault)
            if ticket.nonce in seen:
                raise NonceSeen(f"invalid ticket senderNonce: already seen {_of(batch, ticket)}")
            seen.add(ticket.nonce)
        if len(seen) > MAX_NONCES:
            raise TicketRefused("invalid ticket senderNonce: too many values")
        if batch.expiration_block <= self._clock.block():
            raise ParamsExpired("TicketParams expired")

    def _forget(self) -> None:
        """Drop the nonces of expired params, once a block, as go-livepeer does."""
        block = self._clock.block()
        if block == self._block:
            return
        self._block = block
        while self._received:
            oldest = next(iter(self._received.values()))
            if oldest.expiration_block > block:
                return
            self._received.popitem(last=False)


def _of(batch: Batch, ticket: CheckedTicket) -> str:
    return f"sender={checksummed(batch.sender)} nonce={ticket.nonce}"
