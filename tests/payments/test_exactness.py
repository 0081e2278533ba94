"""No module that computes money has a float."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gateway.money
import gateway.payments

MODULES = (Path(gateway.money.__file__), *sorted(Path(gateway.payments.__file__).parent.rglob("*.py")))
FOR_PEOPLE = "figures.py"
"""The one module that makes floats, of durations, for JSON and logs."""


def floats(source: str) -> list[int]:
    """The lines on which a float is written, named or made."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        literal = isinstance(node, ast.Constant) and isinstance(node.value, float)
        named = isinstance(node, ast.Name) and node.id == "float"
        module = isinstance(node, ast.alias) and node.name in {"math", "decimal"}
        timed = isinstance(node, ast.Attribute) and node.attr in {"time", "monotonic", "perf_counter"}
        if literal or named or module or timed:
            lines.append(getattr(node, "lineno", 0))
    return lines


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_float_is_written_named_or_made_in_a_payment_module(path: Path) -> None:
    if path.name == FOR_PEOPLE:
        assert floats(path.read_text()), "the exception is no longer needed"
    else:
        assert floats(path.read_text()) == []


@pytest.mark.parametrize(
    "line", ["x = 0.5", "x = float(y)", "def f(x: float): ...", "import math", "time.time()", "loop.time()"]
)
def test_what_makes_a_float_is_found(line: str) -> None:
    assert floats(line)
