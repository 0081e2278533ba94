"""Computes what a call costs and makes its payment, with go-livepeer's checks in its order.

`draft` decides without signing; `sign` then makes tickets, credentials and the new state.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, replace
from fractions import Fraction

from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from gateway.devnet.account import Account
from gateway.devnet.signer.call import PaymentCall, read_max_price
from gateway.devnet.signer.config import SignerConfig
from gateway.devnet.signer.refusal import (
    BadRequest,
    NoTicketsNeeded,
    PriceExceeded,
    RefreshNeeded,
    SigningFailed,
)
from gateway.devnet.signer.state import SessionState
from gateway.money import PIXELS_PER_SECOND
from gateway.orchestrator import livepeer_pb2
from gateway.payments.ticket import Ticket

MAX_TICKETS = 100
"""Limit of tickets in one call."""

LIVE_PRELOAD = 10
"""Seconds billed for a null state of the type `live`."""

TOKEN_MARGIN = 180
"""Seconds before an auth token's expiry from which a refresh is asked for."""

BLOCK_MARGIN = 1
"""Blocks before the ticket params' expiration from which a refresh is asked for."""

UNITS = {"lv2v": "720p-pixel-seconds", "": "720p-pixel-seconds", "live": "seconds", "fixed": "fixed"}
"""The unit that `maxPrice` must have, by payment type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A payment to sign: `tickets` from `first_nonce` on, and the state after it."""

    call: PaymentCall
    tickets: int
    first_nonce: int
    state: SessionState


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedPayment:
    """The bytes of the answer: payment and credentials as protobuf, the state as JSON with its signature."""

    payment: bytes
    credentials: bytes
    state: bytes
    state_signature: bytes


def check_terms(info: livepeer_pb2.OrchestratorInfo, config: SignerConfig) -> None:
    """Check price and ticket params of the orchestrator. Raises BadRequest."""
    if info.price_info.pricePerUnit <= 0 or info.price_info.pixelsPerUnit <= 0:
        raise BadRequest("the orchestrator's price is missing or zero")
    if not info.HasField("ticket_params"):
        raise BadRequest("the orchestrator's ticket params are missing")
    if not info.auth_token.token or not info.auth_token.session_id:
        raise BadRequest("the orchestrator's auth token is missing")
    params = info.ticket_params
    if len(info.address) != 20 or len(params.recipient) != 20 or len(params.recipient_rand_hash) != 32:
        raise BadRequest("the ticket params name nobody to pay")
    if len(params.face_value) > 32 or len(params.win_prob) > 32:
        raise BadRequest("the ticket params' numbers are over 256 bits")
    expiration = params.expiration_params
    if expiration.creation_round < 0 or len(expiration.creation_round_block_hash) > 32:
        raise BadRequest("the ticket params' round is not one")
    value = _ticket(info, bytes(20), 0).expected_value
    if value == 0:
        raise BadRequest("a ticket would be worth nothing")
    if config.max_ticket_ev is not None and value > config.max_ticket_ev:
        raise BadRequest("a ticket's expected value is above this signer's limit")
    if config.max_face_value is not None and int.from_bytes(params.face_value, "big") > config.max_face_value:
        raise BadRequest("the face value is above what this signer's deposit backs")


def check_state(call: PaymentCall, state: SessionState) -> None:
    """Whether the state belongs to what the call asks for. Raises BadRequest."""
    if state.orchestrator != to_checksum_address(call.info.address):
        raise BadRequest("the state is of another orchestrator")
    if state.type != call.type:
        raise BadRequest("the state is of another payment type")
    if state.app != call.app:
        raise BadRequest("the state is of another app")
    if not call.manifest_id:
        raise BadRequest("ManifestID is missing")


def draft(call: PaymentCall, state: SessionState | None, config: SignerConfig) -> Draft:
    """Decide on the payment for a call whose terms and state are checked.

    Raises RefreshNeeded, BadRequest, PriceExceeded, NoTicketsNeeded or SigningFailed.
    """
    now = config.clock.now_ns()
    info = call.info
    _check_fresh(info, config)
    elapsed = None if state is None else max(0, now - state.last_update)
    units = _units(call, elapsed, config.preload)
    price = Fraction(info.price_info.pricePerUnit, info.price_info.pixelsPerUnit)
    ceiling = _requested_ceiling(call)
    first_price = price if state is None else state.first_price
    if (
        (ceiling is not None and price > ceiling)
        or (config.max_price is not None and price > _per_unit(config.max_price, call.type))
        or price > first_price
    ):
        raise PriceExceeded("the orchestrator's price is above what is allowed")

    value = _ticket(info, bytes(20), 0).expected_value
    fee = units * first_price
    balance = Fraction(0) if state is None else state.balance
    tickets = math.ceil((max(fee, value) - balance) / value)
    if tickets <= 0:
        raise NoTicketsNeeded("the balance covers the time since the last payment")
    if tickets > MAX_TICKETS:
        raise BadRequest(f"{tickets} tickets would be needed, more than {MAX_TICKETS}")
    if config.max_total_ev is not None and tickets * value > config.max_total_ev:
        raise SigningFailed("the tickets' expected value is above this signer's limit")

    rand_hash = info.ticket_params.recipient_rand_hash.hex()
    if state is None:
        state = SessionState(
            state_id=secrets.token_hex(8),
            payment_session=rand_hash,
            last_update=now,
            orchestrator=to_checksum_address(info.address),
            sender_nonce=0,
            balance=Fraction(0),
            first_price=price,
            type=call.type,
            sequence=0,
            app=call.app,
        )
    used = state.sender_nonce if state.payment_session == rand_hash else 0
    return Draft(
        call=call,
        tickets=tickets,
        first_nonce=used + 1,
        state=replace(
            state,
            payment_session=rand_hash,
            last_update=now,
            sender_nonce=used + tickets,
            balance=balance + tickets * value - fee,
            sequence=state.sequence + 1,
        ),
    )


def sign(draft: Draft, account: Account) -> SignedPayment:
    """Make the tickets and sign everything: some milliseconds for 100 tickets, so not for an event loop."""
    info = draft.call.info
    params = livepeer_pb2.TicketParams()
    params.CopyFrom(info.ticket_params)
    params.ClearField("expiration_params")
    payment = livepeer_pb2.Payment(
        ticket_params=params,
        sender=account.raw_address,
        expiration_params=info.ticket_params.expiration_params,
        expected_price=info.price_info,
    )
    for nonce in range(draft.first_nonce, draft.first_nonce + draft.tickets):
        signature = account.sign(_ticket(info, account.raw_address, nonce).hash)
        payment.ticket_sender_params.add(sender_nonce=nonce, sig=signature)
    state = draft.state.to_json()
    return SignedPayment(
        payment=payment.SerializeToString(),
        credentials=_credentials(draft.call, account).SerializeToString(),
        state=state,
        state_signature=account.sign(state),
    )


def _credentials(call: PaymentCall, account: Account) -> livepeer_pb2.SegData:
    manifest_id = (call.manifest_id or secrets.token_hex(4)).encode()
    no_segment = keccak(b"")
    return livepeer_pb2.SegData(
        manifestId=manifest_id,
        hash=no_segment,
        profiles=b"invalid",
        sig=account.sign(keccak(manifest_id + bytes(32) + no_segment)),
        capabilities=call.capabilities,
        auth_token=call.info.auth_token,
    )


def _check_fresh(info: livepeer_pb2.OrchestratorInfo, config: SignerConfig) -> None:
    expiration_block = int.from_bytes(info.ticket_params.expiration_block, "big")
    if expiration_block <= config.clock.block() + BLOCK_MARGIN:
        raise RefreshNeeded("the ticket params are about to expire", info.transcoder)
    if info.auth_token.expiration - config.clock.unix() <= TOKEN_MARGIN:
        raise RefreshNeeded("the auth token is about to expire", info.transcoder)


def _units(call: PaymentCall, elapsed_ns: int | None, preload: Fraction) -> int:
    """Billed units since the last update, or of the preload for a null state."""
    if call.type and call.in_pixels:
        raise BadRequest("inPixels goes with no payment type but the empty one")
    match call.type:
        case "lv2v":
            seconds = preload if elapsed_ns is None else Fraction(elapsed_ns, 10**9)
            return math.floor(PIXELS_PER_SECOND * seconds)
        case "live":
            return LIVE_PRELOAD if elapsed_ns is None else math.ceil(Fraction(elapsed_ns, 10**9))
        case "fixed":
            return 1
        case "":
            if call.in_pixels <= 0:
                raise BadRequest("inPixels is missing")
            return call.in_pixels
    raise BadRequest(f"unknown payment type {call.type[:40]!r}")


def _requested_ceiling(call: PaymentCall) -> Fraction | None:
    """The call's own ceiling in wei per unit."""
    limit = read_max_price(call.max_price)
    if limit is None:
        return None
    price, currency, unit = limit
    if currency != "wei":
        raise BadRequest(f"maxPrice.currency must be wei, not {currency[:40]!r}")
    if unit != UNITS[call.type]:
        raise BadRequest(f"maxPrice.unit must be {UNITS[call.type]} for this payment type")
    return Fraction(price)


def _per_unit(wei_per_second: Fraction, kind: str) -> Fraction:
    return wei_per_second / PIXELS_PER_SECOND if kind in ("lv2v", "") else wei_per_second


def _ticket(info: livepeer_pb2.OrchestratorInfo, sender: bytes, nonce: int) -> Ticket:
    params = info.ticket_params
    return Ticket(
        recipient=params.recipient,
        sender=sender,
        face_value=int.from_bytes(params.face_value, "big"),
        win_prob=int.from_bytes(params.win_prob, "big"),
        sender_nonce=nonce,
        recipient_rand_hash=params.recipient_rand_hash,
        creation_round=params.expiration_params.creation_round,
        creation_round_block_hash=params.expiration_params.creation_round_block_hash,
    )
