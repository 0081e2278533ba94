"""Verdicts, as readiness tells them."""

from __future__ import annotations

from gateway.candidates.verdict import Judged, Verdict, reasons_of


def test_what_a_signer_refuses_of_many_is_told_once() -> None:
    refused = Judged(verdict=Verdict.SIGNER_REFUSES_TYPE, detail="the signer makes no payments of type lv2v")
    full = Judged(verdict=Verdict.NO_CAPACITY, detail="it is full")
    assert reasons_of([("a", refused), ("b", full), ("c", refused), ("d", full)]) == [
        "the signer makes no payments of type lv2v",
        "b: no_capacity: it is full",
        "d: no_capacity: it is full",
    ]
