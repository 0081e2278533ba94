"""Parses the JSON body of `/generate-live-payment`."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn, TypeVar

from google.protobuf.message import DecodeError, Message

from gateway.devnet.signer.refusal import BadRequest
from gateway.orchestrator import livepeer_pb2

MessageT = TypeVar("MessageT", bound=Message)
T = TypeVar("T")

DECIMAL = re.compile(r"[0-9]{1,100}(\.[0-9]{1,100})?([eE][+-]?[0-9]{1,2})?")
"""Form of a price; bounded, so that an exponent cannot make a number that fills the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedState:
    """A state from the caller: its JSON bytes and their signature."""

    raw: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentCall:
    """The call's fields. `max_price` is not parsed yet: it is checked after the state."""

    info: livepeer_pb2.OrchestratorInfo
    state: SignedState | None
    manifest_id: str
    app: str
    type: str
    in_pixels: int
    max_price: object
    capabilities: livepeer_pb2.Capabilities


def read_call(body: bytes) -> PaymentCall:
    """Parse the body: names ignore case, null counts as absent. Raises BadRequest."""
    try:
        document = json.loads(body, parse_float=Decimal, parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        raise BadRequest("the body is not JSON") from error
    fields = _fields(document, "the body")
    return PaymentCall(
        info=_protobuf(fields, "orchestrator", livepeer_pb2.OrchestratorInfo),
        state=_state(fields.get("state")),
        manifest_id=_value(fields, "manifestid", str, ""),
        app=_value(fields, "app", str, ""),
        type=_value(fields, "type", str, ""),
        in_pixels=_value(fields, "inpixels", int, 0),
        max_price=fields.get("maxprice"),
        capabilities=_protobuf(fields, "capabilities", livepeer_pb2.Capabilities),
    )


def read_max_price(document: object) -> tuple[Decimal, str, str] | None:
    """The price, currency and unit of `maxPrice`; None where it is absent. Raises BadRequest."""
    if document is None:
        return None
    fields = _fields(document, "maxPrice")
    price = fields.get("price")
    if isinstance(price, bool) or not isinstance(price, int | str | Decimal):
        raise BadRequest("maxPrice.price is neither a number nor a string")
    return _decimal(price), _value(fields, "currency", str, ""), _value(fields, "unit", str, "")


def _decimal(price: int | str | Decimal) -> Decimal:
    text = str(price)
    if not DECIMAL.fullmatch(text):
        raise BadRequest(f"maxPrice.price is not a decimal number: {text[:40]!r}")
    return Decimal(text)


def _state(document: object) -> SignedState | None:
    if document is None:
        return None
    fields = _fields(document, "state")
    raw, signature = _base64(fields, "state"), _base64(fields, "sig")
    if not raw and not signature:
        return None
    return SignedState(raw=raw, signature=signature)


def _fields(document: object, what: str) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise BadRequest(f"{what} is not a JSON object")
    return {name.lower(): value for name, value in document.items()}


def _value(fields: dict[str, Any], name: str, kind: type[T], default: T) -> T:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BadRequest(f"{name} is of another type")
    return value


def _base64(fields: dict[str, Any], name: str) -> bytes:
    text = _value(fields, name, str, "")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"{name} is not base64") from error


def _protobuf(fields: dict[str, Any], name: str, kind: type[MessageT]) -> MessageT:
    message = kind()
    try:
        message.ParseFromString(_base64(fields, name))
    except DecodeError as error:
        raise BadRequest(f"{name} is not a {kind.__name__} message") from error
    return message


def _not_json(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
