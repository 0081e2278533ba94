from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# A machine shared with others is no reason to fail: no example is too slow.
settings.register_profile("gateway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gateway")

pytest_plugins = ["tests.turns", "tests.time_limits"]


@pytest.fixture
def without_collector() -> Iterator[None]:
    """What nothing refers to any more is freed at once then, or never."""
    gc.disable()
    yield
    gc.enable()
