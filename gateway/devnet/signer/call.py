"""Parses the JSON body of `/generate-live-payment` into its fields, as Go's decoder does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gateway.devnet.go_texts import GoNumber, decode_base64, decode_json, kind_of
from gateway.devnet.signer.refusal import BadRequest

NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
"""A number literal of JSON."""
MAX_NUMBER = 100
"""Limit of characters of a price."""
MAX_EXPONENT = 100
"""Limit of its exponent, so that it cannot make a number that fills the memory."""
REQUEST = "RemotePaymentRequest"
PRICE_INFO = "LiveRunnerPriceInfo"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedState:
    """A state from the caller: its JSON bytes and their signature."""

    raw: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedMaxPrice:
    """The caller's own ceiling, checked only after the state is."""

    price: str
    currency: str
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentCall:
    """The call's fields. `orchestrator` and `capabilities` are serialised messages, not parsed yet."""

    orchestrator: bytes
    state: SignedState | None
    manifest_id: str
    app: str
    type: str
    in_pixels: int
    max_price: AskedMaxPrice | None
    capabilities: bytes


def read_call(body: bytes) -> PaymentCall:
    """Parse the body: names ignore case, null counts as absent. Raises BadRequest with Go's text."""
    try:
        fields = _fields(decode_json(body), "Go value of type server.RemotePaymentRequest")
        state = _fields(fields.get("state") or {}, _field(REQUEST, "state", "server.RemotePaymentStateSig"))
        raw, signature = _bytes(state, "State"), _bytes(state, "Sig")
        return PaymentCall(
            orchestrator=_bytes(fields, "orchestrator"),
            state=SignedState(raw=raw, signature=signature) if raw or signature else None,
            manifest_id=_text(fields, "ManifestID"),
            app=_text(fields, "app"),
            type=_text(fields, "type"),
            in_pixels=_integer(fields, "inPixels"),
            max_price=_max_price(fields.get("maxprice")),
            capabilities=_bytes(fields, "capabilities"),
        )
    except ValueError as error:
        raise BadRequest(str(error)) from error


def read_max_price(given: AskedMaxPrice | None, kind: str, units: dict[str, str]) -> Fraction | None:
    """The price of `maxPrice` for a payment type, None where it is absent. Raises BadRequest.

    `units` names the unit that belongs to each payment type.
    """
    if given is None:
        return None
    price = _decimal(given.price)
    if price is None or price <= 0:
        raise BadRequest("maxPrice.price must be a positive decimal")
    if given.currency.strip().lower() != "wei":
        raise BadRequest("maxPrice.currency must be wei")
    if kind not in units:
        raise BadRequest("maxPrice requires payment type live, lv2v, or fixed")
    if given.unit.strip().lower() != units[kind]:
        raise BadRequest(f"maxPrice.unit must be {units[kind]} for payment type {kind}")
    return price


def _max_price(document: object) -> AskedMaxPrice | None:
    if document is None:
        return None
    fields = _fields(document, _field(REQUEST, "maxPrice", "runner.LiveRunnerPriceInfo"))
    price = fields.get("price", "")
    if isinstance(price, bool | list | dict):
        raise ValueError(
            f"json: cannot unmarshal {kind_of(price)} into "
            + _field(PRICE_INFO, "maxPrice.price", "json.Number")
        )
    if isinstance(price, str) and not isinstance(price, GoNumber) and not NUMBER.fullmatch(price):
        quoted = f'"\\"{price[:MAX_NUMBER]}\\""'
        raise ValueError(f"json: invalid number literal, trying to unmarshal {quoted} into Number")
    return AskedMaxPrice(
        price="" if price is None else str(price),
        currency=_text(fields, "currency"),
        unit=_text(fields, "unit"),
    )


def _decimal(text: str) -> Fraction | None:
    _, _, exponent = text.lower().partition("e")
    if not NUMBER.fullmatch(text) or len(text) > MAX_NUMBER:
        return None
    if exponent and abs(int(exponent)) > MAX_EXPONENT:
        return None
    return Fraction(text)


def _fields(document: object, what: str) -> dict[str, Any]:
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ValueError(f"json: cannot unmarshal {kind_of(document)} into {what}")
    return {name.lower(): value for name, value in document.items()}


def _field(struct: str, name: str, kind: str) -> str:
    return f"Go struct field {struct}.{name} of type {kind}"


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name.lower())
    if value is None:
        return ""
    if not isinstance(value, str) or isinstance(value, GoNumber):
        raise ValueError(f"json: cannot unmarshal {kind_of(value)} into {_field(REQUEST, name, 'string')}")
    return value


def _integer(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name.lower())
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        kind = f"number {value}" if type(value) is int else kind_of(value)
        raise ValueError(f"json: cannot unmarshal {kind} into {_field(REQUEST, name, 'int64')}")
    return value


def _bytes(fields: dict[str, Any], name: str) -> bytes:
    value = fields.get(name.lower())
    if value is None:
        return b""
    if not isinstance(value, str) or isinstance(value, GoNumber):
        raise ValueError(f"json: cannot unmarshal {kind_of(value)} into {_field(REQUEST, name, '[]uint8')}")
    return decode_base64(value)
