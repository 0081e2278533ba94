"""Computes what a call costs and makes its payment, with go-livepeer's checks in its order.

`draft` decides without signing; `sign` then makes tickets, credentials and the new state.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, replace
from fractions import Fraction

from eth_hash.auto import keccak
from google.protobuf.message import DecodeError

from gateway.devnet.account import Account
from gateway.devnet.go_texts import BAD_PROTOBUF, go_decimal
from gateway.devnet.signer.call import PaymentCall, read_max_price
from gateway.devnet.signer.config import SignerConfig
from gateway.devnet.signer.refusal import (
    BadRequest,
    NoTicketsNeeded,
    PriceExceeded,
    RefreshNeeded,
    SigningFailed,
)
from gateway.devnet.signer.state import SignerSession
from gateway.money import PIXELS_PER_SECOND
from gateway.orchestrator import livepeer_pb2
from gateway.payments.ticket import MAX_WIN_PROB, Ticket, expected_value

MAX_TICKETS = 100
"""Limit of tickets in one call."""

LIVE_PRELOAD = 10
"""Seconds billed for a null state of the type `live`."""

TOKEN_MARGIN = 180
"""Seconds before an auth token's expiry from which a refresh is asked for."""

REFRESH = "refresh session for remote signer"

BLOCK_MARGIN = 1
"""Blocks before the ticket params' expiration from which a refresh is asked for."""

UNITS = {"lv2v": "720p-pixel-seconds", "live": "seconds", "fixed": "fixed"}
"""The unit that `maxPrice` must have, by payment type."""

ADDRESS_BYTES, HASH_BYTES = 20, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A call whose orchestrator is parsed; `manifest_id` is the caller's or a new one."""

    call: PaymentCall
    info: livepeer_pb2.OrchestratorInfo
    manifest_id: str = ""
    capabilities: livepeer_pb2.Capabilities | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A payment to sign: `tickets` from `first_nonce` on, and the state after it."""

    request: Request
    tickets: int
    first_nonce: int
    state: SignerSession


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedPayment:
    """The bytes of the answer: payment and credentials as protobuf, the state as JSON with its signature."""

    payment: bytes
    credentials: bytes
    state: bytes
    state_signature: bytes


def read_request(call: PaymentCall) -> Request:
    """Parse the orchestrator and check its price and ticket params. Raises BadRequest."""
    if not call.orchestrator:
        raise BadRequest("missing orchestrator")
    try:
        info = livepeer_pb2.OrchestratorInfo.FromString(call.orchestrator)
    except DecodeError as error:
        raise BadRequest(BAD_PROTOBUF) from error
    if info.price_info.pricePerUnit <= 0 or info.price_info.pixelsPerUnit <= 0:
        raise BadRequest("missing or zero priceInfo")
    if not info.HasField("ticket_params"):
        raise BadRequest("missing ticketParams in OrchestratorInfo")
    return Request(call=call, info=info)


def check_state(request: Request, state: SignerSession | None) -> Request:
    """Check that the state belongs to the call; gives the request its manifest id. Raises BadRequest."""
    call = request.call
    if state is not None:
        if state.orchestrator != fixed(request.info.address, ADDRESS_BYTES):
            raise BadRequest("orchestratorAddress mismatch")
        if state.app != call.app:
            raise BadRequest("app mismatch")
        if state.type not in ("", call.type):
            raise BadRequest("job type mismatch")
        if not call.manifest_id:
            raise BadRequest("missing manifestID")
    if not call.capabilities:
        asked = None
    else:
        try:
            asked = livepeer_pb2.Capabilities.FromString(call.capabilities)
        except DecodeError as error:
            raise BadRequest(BAD_PROTOBUF) from error
    return replace(request, manifest_id=call.manifest_id or secrets.token_hex(4), capabilities=asked)


def draft(request: Request, state: SignerSession | None, config: SignerConfig) -> Draft:
    """Decide on the payment for a call whose state is checked.

    A clock at or before the state's last update bills the preload again, as for a null state. Raises
    RefreshNeeded, BadRequest, PriceExceeded, NoTicketsNeeded or SigningFailed.
    """
    call, info = request.call, request.info
    _check_session(info, config)
    now = config.clock.now_ns()
    elapsed = 0 if state is None or state.last_update is None else now - state.last_update
    units = _units(call, elapsed, config.preload)
    if state is None:
        sequence, before = 0, new_state(request)
    else:
        sequence, before = state.sequence + 1, state
    _check_price(request, state, config)
    value = make_ticket(request, config, bytes(ADDRESS_BYTES), 0).expected_value
    fee = units * before.initial_price
    tickets = math.ceil((max(fee, value) - before.balance) / value) if value else 0
    if tickets <= 0:
        raise NoTicketsNeeded("no tickets")
    if tickets > MAX_TICKETS:
        raise BadRequest(f"numTickets {tickets} exceeds maximum of {MAX_TICKETS}")
    if config.max_total_ev is not None and tickets * value > config.max_total_ev:
        raise SigningFailed("the tickets' expected value is above this signer's limit")
    rand_hash = fixed(info.ticket_params.recipient_rand_hash, HASH_BYTES)
    used = before.sender_nonce if before.payment_session == rand_hash else 0
    return Draft(
        request=request,
        tickets=tickets,
        first_nonce=used + 1,
        state=replace(
            before,
            payment_session=rand_hash,
            last_update=now,
            sender_nonce=used + tickets,
            balance=before.balance + tickets * value - fee,
            type=call.type,
            sequence=sequence,
        ),
    )


def sign(draft: Draft, config: SignerConfig, account: Account) -> SignedPayment:
    """Make the tickets and sign everything: some milliseconds for 100 tickets, so not for an event loop."""
    request = draft.request
    first = make_ticket(request, config, account.raw_address, draft.first_nonce)
    params = request.info.ticket_params
    payment = livepeer_pb2.Payment(
        ticket_params=livepeer_pb2.TicketParams(
            recipient=first.recipient,
            face_value=params.face_value.lstrip(b"\0"),
            win_prob=params.win_prob.lstrip(b"\0"),
            recipient_rand_hash=first.recipient_rand_hash,
            seed=params.seed.lstrip(b"\0"),
            expiration_block=params.expiration_block.lstrip(b"\0"),
        ),
        sender=account.raw_address,
        expiration_params=livepeer_pb2.TicketExpirationParams(
            creation_round=first.creation_round,
            creation_round_block_hash=first.creation_round_block_hash,
        ),
        expected_price=request.info.price_info,
    )
    for nonce in range(draft.first_nonce, draft.first_nonce + draft.tickets):
        signature = account.sign(replace(first, sender_nonce=nonce).hash)
        payment.ticket_sender_params.add(sender_nonce=nonce, sig=signature)
    state = draft.state.to_json()
    return SignedPayment(
        payment=payment.SerializeToString(),
        credentials=_credentials(request, account).SerializeToString(),
        state=state,
        state_signature=account.sign(state),
    )


def _credentials(request: Request, account: Account) -> livepeer_pb2.SegData:
    manifest_id = request.manifest_id.encode()
    no_segment = keccak(b"")
    return livepeer_pb2.SegData(
        manifestId=manifest_id,
        hash=no_segment,
        profiles=b"invalid",
        sig=account.sign(keccak(manifest_id + bytes(HASH_BYTES) + no_segment)),
        capabilities=request.capabilities,
        auth_token=request.info.auth_token,
    )


def new_state(request: Request) -> SignerSession:
    price = request.info.price_info
    return SignerSession(
        state_id=secrets.token_hex(4),
        orchestrator=fixed(request.info.address, ADDRESS_BYTES),
        initial_price_per_unit=price.pricePerUnit,
        initial_pixels_per_unit=price.pixelsPerUnit,
        type=request.call.type,
        app=request.call.app,
    )


def _check_session(info: livepeer_pb2.OrchestratorInfo, config: SignerConfig) -> None:
    """Check the age of auth token and ticket params, and the tickets against this signer's limits."""
    if not info.HasField("auth_token"):
        raise _unacceptable("missing auth token")
    if config.clock.now_ns() > (info.auth_token.expiration - TOKEN_MARGIN) * 10**9:
        raise RefreshNeeded(REFRESH, info.transcoder)
    if int.from_bytes(info.ticket_params.expiration_block, "big") == 0:
        raise _unacceptable("ticketParams expiration block is 0")
    if params_expire(info, config):
        raise RefreshNeeded(REFRESH, info.transcoder)
    check_limits(info, config)


def params_expire(info: livepeer_pb2.OrchestratorInfo, config: SignerConfig) -> bool:
    """Whether the ticket params have a block left at most."""
    expiration_block = int.from_bytes(info.ticket_params.expiration_block, "big")
    return expiration_block - config.clock.block() <= BLOCK_MARGIN


def check_limits(info: livepeer_pb2.OrchestratorInfo, config: SignerConfig) -> None:
    """Check the tickets against this signer's limits. Raises BadRequest."""
    params = info.ticket_params
    face_value, win_prob = (int.from_bytes(number, "big") for number in (params.face_value, params.win_prob))
    if max(face_value, win_prob) > MAX_WIN_PROB:
        raise _unacceptable("a number has more than 256 bits")
    value = expected_value(face_value, win_prob)
    if value <= 0:
        return
    if value >= face_value:
        raise _unacceptable(f"ticket faceValue too low faceValue={face_value}")
    if config.max_ticket_ev is not None and value > config.max_ticket_ev:
        limit = go_decimal(Fraction(config.max_ticket_ev), 5)
        raise _unacceptable(f"ticket EV {go_decimal(value, 5)} > max ticket EV {limit}")
    if config.max_face_value is not None and face_value > config.max_face_value:
        raise _unacceptable(f"ticket faceValue {face_value} > max faceValue {config.max_face_value}")


def _unacceptable(why: str) -> BadRequest:
    return BadRequest(f"remote signer could not check whether to refresh session: {why}")


def _check_price(request: Request, state: SignerSession | None, config: SignerConfig) -> None:
    """Raise PriceExceeded where the price is above a ceiling, naming the lowest one."""
    price_info = request.info.price_info
    price = Fraction(price_info.pricePerUnit, price_info.pixelsPerUnit)
    requested = read_max_price(request.call.max_price, request.call.type, UNITS)
    if state is not None and min(state.initial_price_per_unit, state.initial_pixels_per_unit) <= 0:
        raise BadRequest("invalid initial price in state")
    # The signer's own ceiling is one number, compared without regard to the unit.
    configured = None if config.max_price is None else config.max_price / PIXELS_PER_SECOND
    ceilings = {
        "configured maximum price": configured,
        "request maxPrice": requested,
        "initial session price": None if state is None else state.initial_price,
    }
    known = [(ceiling, source) for source, ceiling in ceilings.items() if ceiling is not None]
    lowest, source = min(known, key=lambda one: one[0], default=(price, ""))
    if price > lowest:
        raise PriceExceeded(
            f"orchestrator price {go_decimal(price, 3)} exceeds {source} ceiling {go_decimal(lowest, 3)}"
        )


def _units(call: PaymentCall, elapsed_ns: int, preload: Fraction) -> int:
    """Billed units for the elapsed time, or for the preload where no time has passed."""
    match call.type:
        case "lv2v":
            seconds = Fraction(elapsed_ns, 10**9) if elapsed_ns > 0 else preload
            units = math.floor(PIXELS_PER_SECOND * seconds)
        case "live":
            units = math.ceil(Fraction(elapsed_ns, 10**9)) if elapsed_ns > 0 else LIVE_PRELOAD
        case "fixed":
            units = 1
        case "":
            units = call.in_pixels
        case _:
            raise BadRequest("invalid job type")
    if units <= 0:
        raise BadRequest("missing billable unit or job type")
    return units


def make_ticket(request: Request, config: SignerConfig, sender: bytes, nonce: int) -> Ticket:
    params = request.info.ticket_params
    round_number = params.expiration_params.creation_round
    block_hash = fixed(params.expiration_params.creation_round_block_hash, HASH_BYTES)
    if round_number <= 0 or not any(block_hash):
        round_number = config.clock.round()
        block_hash = config.clock.round_block_hash(round_number)
    return Ticket(
        recipient=fixed(params.recipient, ADDRESS_BYTES),
        sender=sender,
        face_value=int.from_bytes(params.face_value, "big"),
        win_prob=int.from_bytes(params.win_prob, "big"),
        sender_nonce=nonce,
        recipient_rand_hash=fixed(params.recipient_rand_hash, HASH_BYTES),
        creation_round=round_number,
        creation_round_block_hash=block_hash,
    )


def fixed(data: bytes, size: int) -> bytes:
    """The last `size` bytes, zeros before them where there are fewer, as Go reads addresses and hashes."""
    return data[-size:].rjust(size, b"\0")
