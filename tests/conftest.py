from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

pytest_plugins = ["tests.turns", "tests.time_limits"]


@pytest.fixture
def without_collector() -> Iterator[None]:
    """What nothing refers to any more is freed at once then, or never."""
    gc.disable()
    yield
    gc.enable()
