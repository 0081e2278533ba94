"""Versions of go-livepeer."""

from __future__ import annotations

import re

Version = tuple[int, int, int]


def parse_version(text: str) -> Version | None:
    """The numbers of a version such as `0.9.1-5ee0f0f3`; None for anything else."""
    match = re.match(r"v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?![\d.])", text, re.ASCII)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))
