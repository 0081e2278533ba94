"""Reads JSON of others: no numbers that JSON does not have, no nesting that a later writer cannot take."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

MAX_DEPTH = 64
"""Arrays and objects within each other; a workflow has about six."""
MAX_CONTAINERS = 8_000
MAX_VALUES = 16_000
"""Limits of arrays and objects, and of values, wherever their signs stand: a workflow has hundreds. A
megabyte could hold half a million, and take the event loop for as many microseconds, each time that it is
read, measured, kept or sent on."""
MAX_DIGITS = 400
"""Limit of an integer's digits: a number of wei has 78, and more take quadratic time."""
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


class TooManyValues(ValueError):
    """It has more arrays, objects or values than are read."""


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises ValueError, also for NaN, Infinity, 1e999, long integers and deep nesting, and TooManyValues.
    """
    return _parse(text, _refuse, float)


def parse_json_exactly(text: str | bytes) -> Any:
    """As `parse_json`, with a Decimal for a number with a fraction or an exponent."""
    return _parse(text, _refuse, Decimal)


def parse_json_leniently(text: str | bytes) -> Any:
    """As `parse_json`, with null for NaN, Infinity and numbers that are too large."""
    return _parse(text, lambda _: None, float)


def _parse(text: str | bytes, not_a_number: Callable[[str], Any], fraction: Callable[[str], Any]) -> Any:
    def number(digits: str) -> Any:
        try:
            value = fraction(digits)
        except ArithmeticError:  # an exponent that Decimal does not take
            return not_a_number(digits)
        return value if math.isfinite(value) else not_a_number(digits)

    def integer(digits: str) -> Any:
        return int(digits) if len(digits) <= MAX_DIGITS else not_a_number(digits)

    body = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if body.count(b"[") + body.count(b"{") > MAX_CONTAINERS or body.count(b",") > MAX_VALUES:
        raise TooManyValues(f"it has more than {MAX_CONTAINERS} arrays and objects, or {MAX_VALUES} values")
    try:
        value = json.loads(
            body.decode("utf-8-sig"), parse_constant=not_a_number, parse_float=number, parse_int=integer
        )
    except RecursionError:
        value, deep = None, True
    else:
        deep = _is_deep(body)
    if deep:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
    return value


def _is_deep(valid: bytes) -> bool:
    """Takes the innermost brackets away again and again: much faster than a walk through the value."""
    outside_strings = valid.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2]
    brackets = b"".join(outside_strings).translate(_BRACKETS, delete=_OTHERS)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _refuse(digits: str) -> None:
    raise ValueError(f"{digits[:20]} is not a number that JSON has, or is too long")
