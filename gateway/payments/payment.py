"""A payment from the signer: its content, and the check that it is what was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from google.protobuf.message import DecodeError

from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments import ticket
from gateway.payments.ticket import Ticket
from signer_client import LivePayment, SignerState

MAX_TICKETS = 100
"""A signer puts at most this many tickets into one payment."""


class PaymentMismatch(Exception):
    """A payment is not what was asked for: it must not be delivered."""


@dataclass(frozen=True, slots=True)
class Payment:
    """A signed payment. Amounts are wei; nonces are in the order of the tickets."""

    live: LivePayment = field(repr=False)
    message: livepeer_pb2.Payment = field(repr=False)

    @classmethod
    def read(cls, live: LivePayment) -> Payment:
        """Parse the signer's answer. PaymentMismatch where it is not a payment of 1 to 100 tickets."""
        try:
            message = livepeer_pb2.Payment.FromString(live.payment_bytes)
        except DecodeError as error:
            raise PaymentMismatch("the signer's payment cannot be read") from error
        if not 1 <= len(message.ticket_sender_params) <= MAX_TICKETS:
            raise PaymentMismatch(f"the signer's payment has {len(message.ticket_sender_params)} tickets")
        return cls(live, message)

    @property
    def state(self) -> SignerState:
        return self.live.state

    @property
    def tickets(self) -> int:
        return len(self.message.ticket_sender_params)

    @property
    def first_nonce(self) -> int:
        return self.message.ticket_sender_params[0].sender_nonce

    @property
    def last_nonce(self) -> int:
        return self.message.ticket_sender_params[-1].sender_nonce

    @property
    def recipient_rand_hash(self) -> bytes:
        return self.message.ticket_params.recipient_rand_hash

    @property
    def face_value(self) -> int:
        return _number(self.message.ticket_params.face_value)

    @property
    def win_prob(self) -> int:
        return _number(self.message.ticket_params.win_prob)

    @property
    def ticket_ev(self) -> Fraction:
        """One ticket's expected value in wei."""
        return ticket.expected_value(self.face_value, self.win_prob)

    @property
    def value(self) -> Fraction:
        """The expected value of all tickets in wei: what the orchestrator credits."""
        return self.tickets * self.ticket_ev

    def check(self, info: OrchestratorInfo, last_nonce: int) -> None:
        """Raise PaymentMismatch unless it has `info`'s params and price, and nonces above `last_nonce`."""
        if _params(self.message.ticket_params) != _params(info.message.ticket_params):
            raise PaymentMismatch("the signer used other ticket params than those asked for")
        if _expiry(self.message.expiration_params) != _expiry(info.message.ticket_params.expiration_params):
            raise PaymentMismatch("the signer used another round than the one asked for")
        expected, asked = self.message.expected_price, info.message.price_info
        if (
            expected.pixelsPerUnit <= 0
            or expected.pricePerUnit * asked.pixelsPerUnit != asked.pricePerUnit * expected.pixelsPerUnit
        ):
            raise PaymentMismatch("the signer's expected price is not the one asked for")
        for one in self.message.ticket_sender_params:
            if one.sender_nonce <= last_nonce:
                raise PaymentMismatch(f"nonce {one.sender_nonce} is not above {last_nonce}")
            last_nonce = one.sender_nonce

    def verify(self, sender: bytes) -> None:
        """Raise PaymentMismatch unless `sender` (20 bytes) signed every ticket. Takes 0.1 ms a ticket."""
        if self.message.sender != sender:
            raise PaymentMismatch("the payment has another sender")
        params, expiry = self.message.ticket_params, self.message.expiration_params
        for one in self.message.ticket_sender_params:
            made = Ticket(
                recipient=params.recipient,
                sender=sender,
                face_value=self.face_value,
                win_prob=self.win_prob,
                sender_nonce=one.sender_nonce,
                recipient_rand_hash=params.recipient_rand_hash,
                creation_round=expiry.creation_round,
                creation_round_block_hash=expiry.creation_round_block_hash,
            )
            try:
                signed_by = ticket.recover(made.hash, one.sig)
            except ValueError as error:
                raise PaymentMismatch(f"ticket {one.sender_nonce}: {error}") from error
            if signed_by != sender:
                raise PaymentMismatch(f"ticket {one.sender_nonce} was signed by another key")


def _number(big_endian: bytes) -> int:
    return int.from_bytes(big_endian, "big")


def _params(params: livepeer_pb2.TicketParams) -> tuple[object, ...]:
    """For comparison: two encodings of the same params may pad their numbers differently."""
    return (
        params.recipient,
        params.recipient_rand_hash,
        _number(params.face_value),
        _number(params.win_prob),
        _number(params.seed),
        _number(params.expiration_block),
    )


def _expiry(params: livepeer_pb2.TicketExpirationParams) -> tuple[int, bytes]:
    return params.creation_round, params.creation_round_block_hash
