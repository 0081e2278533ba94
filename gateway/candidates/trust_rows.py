"""Rows of trust that several nodes add to. Plain logic on the rows that `Record.row` gives."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

Row = dict[str, Any]

COUNTED = ("paid", "delivered_ms", "starts", "empty_starts", "lasted")
FAULT = ("faults", "suspended_until_ns", "forgivable", "reason")


def empty_row(address: str) -> Row:
    """That of an address of which nothing is known."""
    counted = {"paid": Fraction(0), "delivered_ms": 0, "starts": 0, "empty_starts": 0, "lasted": 0}
    return {
        "address": address,
        **counted,
        "faults": 0,
        "suspended_until_ns": 0,
        "forgivable": True,
        "reason": "",
    }


def merged_row(known: Mapping[str, Any], mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> Row:
    """The row with what was added here, and by others, since it was `known` here.

    Of two faults the one that suspends for longer counts.
    """
    row = {"address": mine["address"]}
    for name in COUNTED:
        row[name] = max(0, theirs[name] + mine[name] - known[name])
    faulty = theirs
    if mine["faults"] != known["faults"]:
        both = theirs["faults"] != known["faults"]
        later = theirs["suspended_until_ns"] > mine["suspended_until_ns"]
        faulty = theirs if both and later else mine
    return row | {name: faulty[name] for name in FAULT}
