"""Findings as text and JSON."""

from __future__ import annotations

import json

from gateway.doctor.finding import Finding, Level, as_json, as_text, would_serve

OK = Finding("signer", Level.OK, "answers", figures={"rtt_ms": 3.0})
WARNING = Finding("disk", Level.WARNING, "is nearly full", "make room")
FAULT = Finding("orchestrator", Level.FAULT, "does not answer", "start it", name="o.example:8935")


def test_only_a_fault_keeps_publishers_out() -> None:
    assert would_serve([OK, WARNING])
    assert not would_serve([OK, FAULT])


def test_text_says_what_to_do_and_how_it_comes_out() -> None:
    assert as_text([OK, FAULT]).splitlines() == [
        "ok       signer: answers",
        "fault    orchestrator o.example:8935: does not answer",
        "         -> start it",
        "no publisher would be served: faults above: 1",
    ]
    assert as_text([OK, WARNING]).splitlines()[-1] == "a publisher would be served"


def test_json_has_the_figures() -> None:
    found = json.loads(as_json([OK, FAULT]))
    assert found["would_serve"] is False
    assert found["findings"][0] == {
        "part": "signer",
        "name": "",
        "level": "ok",
        "detail": "answers",
        "advice": "",
        "figures": {"rtt_ms": 3.0},
    }
