"""Runs one target for some time."""

from __future__ import annotations

import time
import traceback
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from benchmarks.fuzz.bounds import measured
from benchmarks.fuzz.inputs import changed
from benchmarks.fuzz.target import Target

ROUND = 200
"""Inputs between two looks at the clock by hypothesis, which plans them together."""


def fuzz(target: Target, seconds: float, begin: int) -> dict[str, Any]:
    """Try inputs for so long, or up to the first finding, which is made small and kept in the corpus.

    `begin` is the first round's random seed.
    """
    until = time.monotonic() + seconds
    corpus = target.corpus()
    state: dict[str, Any] = {"inputs": 0, "slowest": 0.0, "failing": None}

    def attempt(data: bytes) -> None:
        if time.monotonic() > until and state["failing"] is None:
            return
        state["inputs"] += 1
        try:
            state["slowest"] = max(state["slowest"], measured(target.check, data))
        except Exception as error:
            state["failing"], state["why"] = data, error
            raise

    finding: str | None = None
    try:
        target.check(corpus[0])  # what is loaded and compiled once
        for data in corpus:
            attempt(data)
        while time.monotonic() < until:
            _one_round(attempt, changed(corpus, target.words, target.limit), begin)
            begin += 1
    except Exception as error:  # hypothesis's own where a slow input is not slow each time
        finding = "".join(traceback.format_exception_only(state.get("why", error))).strip()[:500]
    row = {
        "target": target.name,
        "inputs": state["inputs"],
        "slowest_ms": round(1000 * state["slowest"], 1),
        "finding": finding,
    }
    if finding is not None and state["failing"] is not None:
        row["input"] = str(target.keep(state["failing"]))
    return row


def _one_round(attempt: Any, inputs: Any, number: int) -> None:
    limits = settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    seed(number)(limits(given(inputs)(attempt)))()
