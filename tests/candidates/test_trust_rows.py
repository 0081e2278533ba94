"""Rows of trust that several nodes add to."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.candidates.trust_rows import COUNTED, Row, empty_row, merged_row

A = "0x" + "aa" * 20
SEEN = st.tuples(st.integers(0, 2), *[st.integers(0, 9)] * len(COUNTED), st.booleans())


def add(row: Row, counted: tuple[int, ...]) -> Row:
    return {**row, **{name: row[name] + more for name, more in zip(COUNTED, counted, strict=True)}}


@given(st.lists(SEEN, max_size=30))
def test_what_three_nodes_add_is_there_once_whenever_each_writes(seen: list[tuple[Any, ...]]) -> None:
    stored, known = empty_row(A), [empty_row(A)] * 3
    local = list(known)

    def write(node: int) -> None:
        nonlocal stored
        stored = merged_row(known[node], local[node], stored)
        known[node] = local[node] = stored

    for node, *counted, writes in seen:
        local[node] = add(local[node], tuple(counted))
        if writes:
            write(node)
    for node in range(3):
        write(node)
    sums = [sum(one[1 + place] for one in seen) for place in range(len(COUNTED))]
    assert [stored[name] for name in COUNTED] == sums


def fault(faults: int, until: int, reason: str) -> Row:
    row = empty_row(A)
    return row | {"faults": faults, "suspended_until_ns": until, "forgivable": False, "reason": reason}


def test_of_two_faults_the_longer_one_counts() -> None:
    known, short, long = empty_row(A), fault(1, 10, "short"), fault(2, 20, "long")
    assert merged_row(known, short, long)["reason"] == "long"
    assert merged_row(known, long, short)["reason"] == "long"
    assert merged_row(known, known, short)["reason"] == "short"
    assert merged_row(known, short, known)["reason"] == "short"


def test_who_forgives_a_fault_that_all_know_takes_it_back() -> None:
    known = fault(1, 10, "why")
    assert merged_row(known, empty_row(A), known)["faults"] == 0


def test_a_run_of_lasting_jobs_that_both_end_is_not_below_nothing() -> None:
    known = empty_row(A) | {"lasted": 3, "paid": Fraction(1)}
    ended = {**known, "lasted": 0}
    assert merged_row(known, ended, ended)["lasted"] == 0
