from __future__ import annotations

import pytest

from gateway.stream import job_slot
from gateway.stream import supervisor as module


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same waits, a hundred times shorter."""
    monkeypatch.setattr(module, "POLL", 0.001)
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    monkeypatch.setattr(module, "STANDBY_POLL", 0.01)
    monkeypatch.setattr(module, "FIRST_RETRY", 0.01)
    monkeypatch.setattr(job_slot, "WATCH_POLL", 0.002)
