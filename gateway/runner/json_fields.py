"""Finds texts in the JSON of an app's answers."""

from __future__ import annotations

from typing import Any


def find_text(answer: Any, name: str) -> str:
    """The text, or the number as text, of a field; `a.b` is for nested ones. Empty where there is none."""
    value = answer
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""
