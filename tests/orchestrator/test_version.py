"""Versions are read."""

from __future__ import annotations

import pytest

from gateway.orchestrator.version import parse_version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0.9.1", (0, 9, 1)),
        ("v0.9.1-5ee0f0f3", (0, 9, 1)),
        ("0.9", None),
        ("0.9.1.2", None),
        ("undefined", None),
    ],
)
def test_the_numbers_count(text: str, version: tuple[int, int, int] | None) -> None:
    assert parse_version(text) == version
