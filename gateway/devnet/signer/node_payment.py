"""The rules of livepeer/node's signer: live runners only, in its own order of checks.

They share tickets, state and signatures with go-livepeer's, which `payment.py` has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from gateway.devnet.signer.call import PaymentCall, SignedState, read_max_price
from gateway.devnet.signer.config import SignerConfig
from gateway.devnet.signer.payment import (
    ADDRESS_BYTES,
    HASH_BYTES,
    LIVE_PRELOAD,
    MAX_TICKETS,
    REFRESH,
    TOKEN_MARGIN,
    Draft,
    Request,
    check_limits,
    fixed,
    make_ticket,
    new_state,
    params_expire,
    read_request,
)
from gateway.devnet.signer.refusal import (
    BadRequest,
    NoTicketsNeeded,
    PriceExceeded,
    RefreshNeeded,
    SigningFailed,
)
from gateway.devnet.signer.state import SignerSession

UNITS = {"live": "seconds", "fixed": "fixed"}
LONGEST_GAP = 3600
"""Seconds since the last call after which a state is refused."""
REFRESH_NONCE = 500
MAX_NONCE = 600
NANOSECONDS = 10**9


def prepare(
    call: PaymentCall, open_state: Callable[[SignedState], SignerSession], config: SignerConfig
) -> tuple[Request, SignerSession | None]:
    """The checks up to the state's. Raises BadRequest, RefreshNeeded or PriceExceeded."""
    if call.type not in UNITS:
        raise BadRequest("type must be live or fixed")
    if call.capabilities:
        raise BadRequest("capabilities are not supported")
    request = read_request(call)
    info = request.info
    token, params = info.auth_token, info.ticket_params
    if not token.session_id or not int.from_bytes(params.expiration_block, "big"):
        raise BadRequest("incomplete payment parameters")
    if fixed(params.recipient, ADDRESS_BYTES) != fixed(info.address, ADDRESS_BYTES):
        raise BadRequest("ticket recipient does not match the orchestrator")
    if params.expiration_params.creation_round <= 0 or not any(
        params.expiration_params.creation_round_block_hash
    ):
        raise BadRequest("incomplete payment parameters")
    if config.clock.now_ns() > (token.expiration - TOKEN_MARGIN) * NANOSECONDS:
        raise RefreshNeeded(REFRESH, info.transcoder)
    if call.manifest_id and call.manifest_id != token.session_id:
        raise BadRequest("ManifestID does not match the challenge")
    price = _price(request)
    requested = read_max_price(call.max_price, call.type, UNITS)
    for ceiling in (requested, config.max_price):
        if ceiling is not None and price > ceiling:
            raise PriceExceeded("the orchestrator's price exceeds the ceiling")
    request = replace(request, manifest_id=token.session_id)
    state = None if call.state is None else open_state(call.state)
    if state is not None:
        bound = (state.orchestrator, state.app, state.type, state.manifest_id)
        if bound != (fixed(info.address, ADDRESS_BYTES), call.app, call.type, request.manifest_id):
            raise BadRequest("state scope mismatch")
    return request, state


def draft(request: Request, state: SignerSession | None, config: SignerConfig) -> Draft:
    """Decide on the payment for a call that is prepared.

    Raises PriceExceeded, BadRequest, RefreshNeeded, NoTicketsNeeded or SigningFailed.
    """
    info, now, price = request.info, config.clock.now_ns(), _price(request)
    if state is not None and price > state.initial_price:
        raise PriceExceeded("the orchestrator's price exceeds the session's first one")
    elapsed = Fraction(
        0 if state is None or state.last_update is None else now - state.last_update, NANOSECONDS
    )
    if elapsed > LONGEST_GAP:
        raise BadRequest("too long since the last payment")
    rand_hash = fixed(info.ticket_params.recipient_rand_hash, HASH_BYTES)
    before = replace(new_state(request), manifest_id=request.manifest_id) if state is None else state
    used = before.sender_nonce if before.payment_session == rand_hash else 0
    if used >= REFRESH_NONCE or params_expire(info, config):
        raise RefreshNeeded(REFRESH, info.transcoder)
    check_limits(info, config)
    value = make_ticket(request, config, bytes(ADDRESS_BYTES), 0).expected_value
    if not value:
        raise BadRequest("tickets are worth nothing")
    fee = price * _units(request.call.type, state, elapsed)
    tickets = math.ceil((max(fee, value) - before.balance) / value)
    if tickets <= 0:
        raise NoTicketsNeeded("no tickets")
    if tickets > MAX_TICKETS:
        raise BadRequest(f"{tickets} tickets exceed the maximum of {MAX_TICKETS}")
    if used + tickets >= MAX_NONCE:
        raise RefreshNeeded(REFRESH, info.transcoder)
    if config.max_total_ev is not None and tickets * value > config.max_total_ev:
        raise SigningFailed("the tickets' expected value is above this signer's limit")
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
            sequence=0 if state is None else state.sequence + 1,
        ),
    )


def _price(request: Request) -> Fraction:
    price = request.info.price_info
    return Fraction(price.pricePerUnit, price.pixelsPerUnit)


def _units(kind: str, state: SignerSession | None, elapsed: Fraction) -> int:
    if kind == "fixed":
        return 1
    return LIVE_PRELOAD if state is None else max(1, math.ceil(elapsed))
