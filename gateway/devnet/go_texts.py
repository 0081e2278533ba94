"""Decoding as Go's encoding/base64 and encoding/json do it, with their error texts.

go-livepeer sends these texts to its clients, so the devnet sends the same.
"""

from __future__ import annotations

import base64
import json
import re
import string
from fractions import Fraction
from typing import Any, NoReturn

ALPHABET = frozenset(string.ascii_letters + string.digits + "+/")
PADDING = "="
QUANTUM = 4
"""Characters that encode three bytes."""
NUMBER_MARK = re.compile(r'"\\u0000([-+0-9.eE]+)\\u0000"')
BAD_PROTOBUF = "proto: cannot parse invalid wire-format data"


class GoNumber(str):
    """A JSON number with a fraction or an exponent, as it was written."""


def decode_base64(text: str) -> bytes:
    """`base64.StdEncoding.DecodeString`. Raises ValueError with Go's text."""
    where = _corrupt_at(text)
    if where is not None:
        raise ValueError(f"illegal base64 data at input byte {where}")
    return base64.b64decode(text.replace("\r", "").replace("\n", ""))


def _corrupt_at(text: str) -> int | None:
    """The index of the first character that Go refuses, None where it takes all."""
    taken: list[int] = []
    """The places of the characters of the quantum that is being read."""
    for where, character in enumerate(text):
        if character in "\r\n":
            continue
        if character == PADDING:
            return _corrupt_padding(text, where, len(taken))
        if character not in ALPHABET:
            return where
        taken = [] if len(taken) == QUANTUM - 1 else [*taken, where]
    return len(text) - len(taken) if taken else None


def _corrupt_padding(text: str, where: int, taken: int) -> int | None:
    rest = [place for place in range(where + 1, len(text)) if text[place] not in "\r\n"]
    if taken < 2:
        return where
    if taken == 2:
        if not rest:
            return len(text)
        if text[rest[0]] != PADDING:
            return rest[0] - 1
        rest = rest[1:]
    return rest[0] if rest else None


def decode_json(body: bytes) -> Any:
    """The first value of `body`, as `json.Decoder` reads it. Raises ValueError with Go's text.

    Numbers with a fraction or exponent become GoNumber.
    """
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise ValueError("EOF")
    try:
        return _DECODER.raw_decode(text)[0]
    except json.JSONDecodeError as error:
        if not text[error.pos :].strip() or error.msg.startswith("Unterminated string"):
            raise ValueError("unexpected EOF") from error
        raise ValueError(_unexpected(text[error.pos])) from error
    except RecursionError as error:
        raise ValueError("exceeded max depth") from error


def _unexpected(character: str) -> str:
    return f"invalid character {character!r} looking for beginning of value"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(_unexpected(name[0]))


_DECODER = json.JSONDecoder(parse_float=GoNumber, parse_constant=_no_constant)


def kind_of(value: object) -> str:
    """How Go's errors name the kind of a JSON value."""
    match value:
        case bool():
            return "bool"
        case GoNumber():
            return f"number {value}"
        case str():
            return "string"
        case int():
            return "number"
        case list():
            return "array"
    return "object"


def go_decimal(number: Fraction, places: int) -> str:
    """What `big.Rat.FloatString` writes: so many decimal places, halves rounded away from zero."""
    scaled = abs(number) * 10**places
    digits = str((2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator))
    digits = digits.rjust(places + 1, "0")
    sign = "-" if number < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else sign + digits


def json_line(value: object) -> bytes:
    """What `json.NewEncoder` writes: compact, with a newline at the end; a GoNumber as it stands."""
    marked = json.dumps(_marked(value), separators=(",", ":"), ensure_ascii=False)
    return NUMBER_MARK.sub(r"\1", marked).encode() + b"\n"


def _marked(value: object) -> object:
    """The same value with its GoNumbers as texts that NUMBER_MARK finds: no text holds a raw U+0000."""
    if isinstance(value, GoNumber):
        return f"\0{value}\0"
    if isinstance(value, dict):
        return {name: _marked(one) for name, one in value.items()}
    return [_marked(one) for one in value] if isinstance(value, list) else value
