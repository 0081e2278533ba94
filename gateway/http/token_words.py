"""The words of a token line: white space separates them, quotes keep it, `#` begins a comment.

In double quotes `\\"` and `\\\\` stand for the second character; in single quotes nothing is special. The
first word, the token, is taken as it stands.
"""

from __future__ import annotations

import re
from fractions import Fraction

from gateway.payments.customer import MAX_NAME, Customer, checked_headers, parse_markup
from signer_client import parse_headers

CUSTOMER = "customer"
SIGNER_HEADERS = "signerHeaders"
MARKUP = "usageMarkup"

_TOKEN = re.compile(r"\s*([^\s#]\S*)")
_GAP = re.compile(r"\s*")
_WORD = re.compile(r"""(?:[^\s"']|"(?:[^"\\]|\\.)*"|'[^']*')+""")
_QUOTED = re.compile(r""""((?:[^"\\]|\\.)*)"|'([^']*)'""")
_ESCAPE = re.compile(r'\\(["\\])')


def words_of(line: str) -> list[str]:
    """The token and the words after it, without their quotes; none for an empty line.

    Raises ValueError for a quote that is not closed.
    """
    token = _TOKEN.match(line)
    if token is None:
        return []
    words, place = [token[1]], token.end()
    while True:
        gap = _GAP.match(line, place)
        start = place if gap is None else gap.end()
        if start == len(line) or line[start] == "#":
            return words
        word = _WORD.match(line, start)
        if word is None or (word.end() < len(line) and not line[word.end()].isspace()):
            raise ValueError("a quote is not closed")
        words.append(_QUOTED.sub(_inside, word[0]))
        place = word.end()


def _inside(quoted: re.Match[str]) -> str:
    return quoted[2] if quoted[1] is None else _ESCAPE.sub(r"\1", quoted[1])


def customer_of(name: str, headers: str | None, markup: str | None) -> Customer:
    """Whom a token's streams are for. Raises ValueError, whose text has no header's value."""
    if len(name) > MAX_NAME:
        raise ValueError(f"{CUSTOMER}= has more than {MAX_NAME} characters")
    try:
        given = {} if headers is None else checked_headers(parse_headers(headers))
        factor: Fraction | None = None if markup is None else parse_markup(markup)
    except ValueError as error:
        word = SIGNER_HEADERS if markup is None or "header" in str(error) else MARKUP
        raise ValueError(f"{word}=: {error}") from error
    return Customer(name, given, factor)
