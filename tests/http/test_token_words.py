"""Token lines with quotes: what was meant comes out, and no header's value stands in an error."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.token_words import words_of
from gateway.http.tokens import BadTokenLine, parse_line

token = st.text(st.characters(codec="ascii", categories=["L", "N", "P"], exclude_characters="#"), min_size=1)
value = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=20)
bare = st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=10)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(token, st.lists(st.tuples(bare, value)), st.sampled_from(["", "  # a 'comment' \"", "\t"]))
def test_words_come_out_as_they_were_quoted(token: str, given_words: list[tuple[str, str]], end: str) -> None:
    line = " \t ".join([token, *(f"w{name}={quoted(text)}" for name, text in given_words)])
    assert words_of(line + end) == [token, *(f"w{name}={text}" for name, text in given_words)]


@given(st.text(st.characters(codec="latin-1"), max_size=60))
def test_any_line_is_read_or_refused(line: str) -> None:
    try:
        words = words_of(line)
    except ValueError:
        return
    if not any(mark in line for mark in "\"'#"):
        assert words == line.split()


@pytest.mark.parametrize(
    ("line", "headers"),
    [
        ('t signerHeaders="A: Bearer abc,X-Plan: gold"', {"A": "Bearer abc", "X-Plan": "gold"}),
        ("t signerHeaders='Authorization:Bearer abc'", {"Authorization": "Bearer abc"}),
        ('t signerHeaders=Authorization:"Bearer abc" maxStreams=1', {"Authorization": "Bearer abc"}),
        ("t signerHeaders=X-Key:abc:def", {"X-Key": "abc:def"}),
        ('t "signerHeaders=X-Key: # one" # two', {"X-Key": "# one"}),
        ("t", {}),
    ],
)  # fmt: skip
def test_a_line_gives_its_streams_headers_for_the_signer(line: str, headers: dict[str, str]) -> None:
    parsed = parse_line(line)
    assert parsed is not None
    assert parsed[1].customer.signer_headers == headers
    assert not any(value in repr(parsed[1]) for value in headers.values())


def test_a_line_names_a_customer_and_what_it_is_charged() -> None:
    parsed = parse_line('to"ken customer="Ann Lee" usageMarkup=1.25')
    assert parsed is not None
    assert (parsed[1].customer.name, parsed[1].customer.markup) == ("Ann Lee", Fraction(5, 4))


@pytest.mark.parametrize(
    "words",
    [
        'signerHeaders="Authorization: s3cretvalue',
        "signerHeaders=s3cretvalue",
        'signerHeaders="Host: s3cretvalue"',
        'signerHeaders="a: s3cretvalue,A: s3cretvalue"',
        'signerHeaders="b@d: s3cretvalue"',
        'signerHeaders="a: s3cretvalue\x01"',
        "signerHeaders=a:s3cretvalue signerHeaders=b:s3cretvalue",
        "signerHeader=a:s3cretvalue",
        "signerHeaders=Authorization: Bearer s3cretvalue",
        "signerHeaders=Authorization: s3cretvalue==",
        f"signerHeaders=a:s3cretvalue{'x' * 8200}",
        "usageMarkup=0 signerHeaders=a:s3cretvalue",
        "usageMarkup=1e9",
        "usageMarkup=much",
        f"customer={'c' * 501}",
    ],
)
def test_a_line_that_is_wrong_opens_nothing_and_its_error_shows_no_value(words: str) -> None:
    with pytest.raises(BadTokenLine) as refused:
        parse_line(f"token {words}")
    assert "s3cretvalue" not in str(refused.value)
