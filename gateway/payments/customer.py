"""For whom a stream is paid: a name in the ledger, what it is charged, and who it is to the signer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

MAX_NAME = 500
"""Characters of a customer's name."""
MAX_HEADERS = 32
MAX_HEADER_CHARS = 8192
"""Of all names and values together."""
MAX_MARKUP_CHARS = 40

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\x80-\xff]*")
_OF_THE_CLIENT = frozenset(
    {"host", "connection", "content-length", "content-type", "content-encoding", "transfer-encoding"}
    | {"accept-encoding", "upgrade", "expect", "te", "trailer"}
)
"""Headers that describe the call itself."""


@dataclass(frozen=True, slots=True)
class Customer:
    """Whom a stream is for, constant over all its jobs."""

    name: str = ""
    """Empty for nobody in particular."""
    signer_headers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    """Go with each of its calls of the signer and to nobody else: secret."""
    markup: Fraction | None = None
    """What it is charged for a wei that was spent; None: what all are charged."""

    def named(self, name: str | None) -> Customer:
        """The same under another name; None keeps it."""
        return self if name is None else Customer(name, self.signer_headers, self.markup)

    def hidden_in(self, text: str) -> str:
        """The text with `***` where it has the name: anybody may read it then."""
        if not self.name:
            return text
        return re.sub(rf"(?<!\w){re.escape(self.name)}(?!\w)", "***", text)

    def json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "signer_headers": dict(self.signer_headers),
            "markup": None if self.markup is None else str(self.markup),
        }

    @classmethod
    def parse(cls, value: object) -> Customer:
        """What `json` gave. Raises ValueError."""
        if not isinstance(value, dict) or set(value) != {"name", "signer_headers", "markup"}:
            raise ValueError("a customer has a name, headers and a mark-up")
        name, headers, markup = value["name"], value["signer_headers"], value["markup"]
        if not isinstance(name, str) or not isinstance(headers, dict):
            raise ValueError("a customer's name is a text, its headers are an object")
        if markup is not None and not isinstance(markup, str):
            raise ValueError("a customer's mark-up is a text")
        return cls(name, checked_headers(headers), None if markup is None else parse_markup(markup))


ANYBODY = Customer()


def parse_markup(text: str) -> Fraction:
    """A factor above 0 such as `1.2` or `6/5`. Raises ValueError."""
    digits = r"[0-9]{1,18}(\.[0-9]{1,18})?(/[1-9][0-9]{0,17})?"
    if len(text) > MAX_MARKUP_CHARS or not re.fullmatch(digits, text) or (markup := _fraction(text)) <= 0:
        raise ValueError("a mark-up is a number above 0, such as 1.2")
    return markup


def _fraction(text: str) -> Fraction:
    number, _, parts = text.partition("/")
    return Fraction(number) / int(parts or "1")


def checked_headers(headers: Mapping[Any, Any]) -> dict[str, str]:
    """Headers that may go to the signer. Raises ValueError, whose text has no value."""
    if len(headers) > MAX_HEADERS:
        raise ValueError(f"more than {MAX_HEADERS} headers")
    seen: set[str] = set()
    total = 0
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError("a header's name is not one of HTTP")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the value of the header {name} is not text that HTTP allows")
        if name.lower() in _OF_THE_CLIENT:
            raise ValueError(f"the header {name} is the client's own")
        if name.lower() in seen:
            raise ValueError(f"the header {name} stands there twice")
        seen.add(name.lower())
        total += len(name) + len(value)
    if total > MAX_HEADER_CHARS:
        raise ValueError(f"the headers have more than {MAX_HEADER_CHARS} characters")
    return dict(headers)
