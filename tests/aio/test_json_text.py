from __future__ import annotations

import contextlib
import gc
import json
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.aio.json_text import (
    MAX_CONTAINERS,
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_VALUES,
    TooManyValues,
    parse_json,
    parse_json_exactly,
    parse_json_leniently,
)
from harness.waiting import SLACK


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='[]{}"\\a'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='"\\]{'), inner, max_size=3),
    max_leaves=20,
)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@pytest.mark.parametrize(
    "text",
    [
        *("NaN", "[Infinity]", '{"x": -Infinity}', "1e999", "[-1e999]", "1" * (MAX_DIGITS + 1)),
        *(nested(MAX_DEPTH + 1), nested(200_000)),
    ],
)
def test_what_json_does_not_have_is_refused(text: str) -> None:
    for parse in (parse_json, parse_json_exactly):
        with pytest.raises(ValueError, match=r"is not a number that JSON has|nested deeper|more than"):
            parse(text)


def test_fractions_can_be_read_exactly() -> None:
    exact = {"price": Decimal("0.1234567890123456789"), "number": 7}
    assert parse_json_exactly('{"price": 0.1234567890123456789, "number": 7}') == exact
    with pytest.raises(ValueError, match="is not a number"):
        parse_json_exactly("1e99999999999999999999")


@pytest.mark.parametrize("text", ["[" + "0," * (MAX_VALUES + 1) + "0]", "[" * (MAX_CONTAINERS + 1)])
def test_too_many_values_are_told_from_what_is_no_json(text: str) -> None:
    with pytest.raises(TooManyValues):
        parse_json(text)


@pytest.mark.parametrize("value", [None, 0, -1.5e300, "NaN", [1, [2]], {"a": {"b": [True]}}])
def test_all_other_json_is_read(value: Any) -> None:
    assert parse_json(json.dumps(value)) == parse_json_leniently(json.dumps(value).encode()) == value


def test_objects_and_lists_may_be_nested_to_the_limit() -> None:
    assert json.dumps(parse_json(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    objects = '{"a":' * (MAX_DEPTH - 1) + "{}" + "}" * (MAX_DEPTH - 1)
    assert parse_json(objects)
    assert parse_json(objects.replace("{}", '{"a": 1}'))
    with pytest.raises(ValueError, match="deeper"):
        parse_json(f"[{objects}]")


def test_brackets_in_strings_are_text() -> None:
    text = json.dumps({"[" * 100: ['\\"' + "[" * 100, "]{" * 100, "\\"]})
    assert json.dumps(parse_json(text)) == text


@given(JSON)
def test_the_depth_is_that_of_the_value(value: Any) -> None:
    deeper: Any = value
    for _ in range(MAX_DEPTH - depth(value)):
        deeper = [deeper]
    assert parse_json(json.dumps(deeper)) == deeper
    with pytest.raises(ValueError, match="deeper"):
        parse_json(json.dumps([deeper]))


def test_numbers_that_are_none_can_be_read_as_null() -> None:
    assert parse_json_leniently('{"fps": NaN, "max": [1e999, 1]}') == {"fps": None, "max": [None, 1]}
    assert parse_json_leniently("[" + "1" * 5000 + "]") == [None]
    with pytest.raises(ValueError, match="deeper"):
        parse_json_leniently(nested(MAX_DEPTH + 1))


COSTLY = {
    "nested lists": "[" * 500_000 + "]" * 500_000,
    "lists in lists": "[" + ("[" * 60 + "]" * 60 + ",") * 8_000 + "0]",
    "empty lists": "[" + "[]," * 300_000 + "0]",
    "empty objects": "[" + "{}," * 300_000 + "0]",
    "zeros": "[" + "0," * 500_000 + "0]",
    "keys": "{" + ",".join(f'"{n:x}":0' for n in range(90_000)) + "}",
    "no numbers": "[" + "NaN," * 250_000 + "0]",
    "as many values as may be": "{" + ",".join(f'"{n:x}":0' for n in range(MAX_VALUES)) + "}",
    "as many lists as may be": "[" + "[]," * (MAX_CONTAINERS - 1) + "0]",
    "one string": json.dumps("a" * 1_000_000),
    "escapes": '"' + r"\u0041" * 160_000 + '"',
    "backslashes": json.dumps("\\" * 500_000),
    "an open string": '"' + r"\"" * 500_000,
    "digits": "1" * 1_000_000,
    "long numbers": "[" + ("1" * MAX_DIGITS + ",") * 2500 + "0]",
    "white space": " " * 1_000_000,
}


@pytest.mark.parametrize("text", COSTLY.values(), ids=COSTLY.keys())
@pytest.mark.parametrize("parse", [parse_json, parse_json_exactly, parse_json_leniently])
def test_no_megabyte_takes_long(parse: Callable[[bytes], Any], text: str) -> None:
    body = text.encode()
    gc.freeze()  # what other tests left is not looked through for garbage meanwhile
    try:
        before = time.process_time()
        with contextlib.suppress(ValueError):
            parse(body)
        took = time.process_time() - before
    finally:
        gc.unfreeze()
    assert took < 0.05 * SLACK
