"""Decoding with Go's error texts."""

from __future__ import annotations

import base64
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.devnet.go_texts import GoNumber, decode_base64, decode_json, go_decimal, json_line


@given(st.binary(max_size=20))
def test_what_is_encoded_is_decoded(data: bytes) -> None:
    encoded = base64.b64encode(data).decode()
    assert decode_base64(encoded) == data
    assert decode_base64("\r\n".join(encoded)) == data


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("%%", 0),
        ("!!!!", 0),
        ("AAA*", 3),
        ("A", 0),
        ("AAAAA", 4),
        ("AA", 0),
        ("AAA", 0),
        ("=", 0),
        ("A=", 1),
        ("AA=", 3),
        ("AA=A", 2),
        ("AA==A", 4),
        ("AAA=A", 4),
        ("AAAA\nAA\n", 6),
    ],
)
def test_the_first_bad_character_is_named(text: str, where: int) -> None:
    with pytest.raises(ValueError, match=f"^illegal base64 data at input byte {where}$"):
        decode_base64(text)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "EOF"),
        (b"  ", "EOF"),
        (b"{", "unexpected EOF"),
        (b'{"a": ', "unexpected EOF"),
        (b'{"a": "b', "unexpected EOF"),
        (b"xyz", "invalid character 'x' looking for beginning of value"),
        (b"NaN", "invalid character 'N' looking for beginning of value"),
    ],
)
def test_a_body_that_is_not_json_has_gos_text(body: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}$"):
        decode_json(body)


def test_the_first_value_counts_and_fractions_stay_text() -> None:
    value = decode_json(b'{"a": 1.50, "b": 2} trailing')
    assert value == {"a": "1.50", "b": 2}
    assert isinstance(value["a"], GoNumber)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Fraction(38700810185, 1000), "38700810.185"),
        (Fraction(1, 2000), "0.001"),
        (Fraction(-1, 2000), "-0.001"),
        (Fraction(1, 3), "0.333"),
        (Fraction(0), "0.000"),
    ],
)
def test_a_decimal_is_rounded_half_away_from_zero(number: Fraction, text: str) -> None:
    assert go_decimal(number, 3) == text


def test_json_is_compact_and_ends_in_a_newline() -> None:
    assert json_line({"a": [1, "é"]}) == '{"a":[1,"é"]}\n'.encode()
