"""What is installed is pinned."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("library", ["aiohttp", "aiortc", "grpclib", "sqlalchemy", "structlog", "uvloop"])
def test_dependencies_are_locked_with_hashes_and_no_address(library: str) -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert re.search(rf"^{library}==[\w.]+ .*\\\n    --hash=sha256:", lock, re.MULTILINE)
    assert "http" not in re.sub(r"^(ai)?(o?http\w*|httptools)==", "", lock, flags=re.MULTILINE).replace(
        "aiohttp", ""
    )
