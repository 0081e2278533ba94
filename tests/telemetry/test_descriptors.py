from __future__ import annotations

import resource

import pytest

from gateway.telemetry.descriptors import OPEN, RESERVE, few_left


def test_few_are_left_when_nearly_all_that_may_be_opened_are(monkeypatch: pytest.MonkeyPatch) -> None:
    used = sum(1 for _ in OPEN.iterdir())
    for limit, few in (
        (used + RESERVE // 2, True),
        (used + 2 * RESERVE, False),
        (resource.RLIM_INFINITY, False),
    ):
        monkeypatch.setattr(resource, "getrlimit", lambda which, limit=limit: (limit, limit))
        assert few_left() is few
