"""Simulcast layers of an offer (RFC 8853, RFC 8851): which of them are asked for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from gateway.webrtc.sdp import Section

MAX_LAYERS = 8
MAX_RID = 16
"""Characters of a layer's name: what a one-byte header extension carries (RFC 8285)."""

_LARGEST_FIRST = (
    ("f", "h", "q"),
    ("full", "half", "quarter"),
    ("h", "m", "l"),
    ("hi", "mid", "lo"),
    ("high", "medium", "low"),
    ("high", "mid", "low"),
)
"""What senders commonly call their layers."""


def layers(section: Section) -> tuple[str, ...]:
    """The layers that a section offers to send, the preferred first; empty without simulcast.

    One that is paused from the start (`~`) counts only where all are.
    """
    value = section.value("simulcast")
    if value is None:
        return ()
    described = _restrictions(section)
    named = _send_list(value) or list(described)
    known = [name for name in named if name.removeprefix("~") in described]
    flowing = [name for name in known if not name.startswith("~")] or [name[1:] for name in known]
    return tuple(dict.fromkeys(flowing))[:MAX_LAYERS]


def wanted(section: Section, offered: Sequence[str]) -> tuple[str, ...]:
    """Those to ask for: the largest alone where the offer tells which that is, else all.

    It tells by the layers' restrictions, or by their names.
    """
    if len(offered) < 2:
        return tuple(offered)
    described = _restrictions(section)
    for keys in (("max-width", "max-height"), ("max-fs",), ("max-pps",), ("max-br",)):
        sizes = [_size(described[name], keys) for name in offered]
        if None not in sizes and len(set(sizes)) > 1:
            return (offered[sizes.index(max(size for size in sizes if size is not None))],)
    for names in _LARGEST_FIRST:
        if set(offered) <= set(names):
            return (min(offered, key=names.index),)
    return tuple(offered)


def _send_list(value: str) -> list[str]:
    """The names behind `send`, of alternatives the first: `recv a send b,c;~d` has b and ~d."""
    words = value.replace("rid=", " ").split()  # `send rid=b;c` is the form of an early draft
    for direction, names in itertools.pairwise(words):
        if direction == "send":
            return [name for alternatives in names.split(";") if (name := alternatives.split(",")[0])]
    return []


def _restrictions(section: Section) -> dict[str, dict[str, str]]:
    """Each layer that has an `a=rid:.. send` line, with what the line says of it."""
    found: dict[str, dict[str, str]] = {}
    for value in section.values("rid"):
        name, direction, restrictions = [*value.split(None, 2), "", "", ""][:3]
        if direction == "send" and len(name) <= MAX_RID and name.isascii() and len(found) < MAX_LAYERS:
            pairs = (part.strip().partition("=") for part in restrictions.split(";"))
            found.setdefault(name, {key: number for key, _, number in pairs})
    return found


def _size(restrictions: dict[str, str], keys: Sequence[str]) -> int | None:
    """The product of these restrictions; None where one is missing or no number."""
    product = 1
    for key in keys:
        text = restrictions.get(key, "")
        if not (text.isascii() and text.isdecimal() and len(text) <= 12):
            return None
        product *= int(text)
    return product
