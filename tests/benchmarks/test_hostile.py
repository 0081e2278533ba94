"""The benchmark of hostile inputs: a few of them give all figures, and do nothing that lasts."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.hostile import measure
from harness.waiting import SLACK

SHORT = ("10 MB of HTTP/2 PING", "transport stream: access unit delimiters", "events without end: nothing")


@pytest.mark.asyncio
async def test_hostile_servers_take_neither_the_loop_for_long_nor_the_memory(tmp_path: Path) -> None:
    rows = [row async for row in measure(tmp_path, SHORT)]
    assert [row["figure"] for row in rows] == list(SHORT)
    for row in rows:
        # other tests run beside it: the 50 ms are measured by the bench, and by the tests of each part
        assert 0 < row["healthz_slowest_ms"] < 1000 * SLACK
        assert 0 < row["honest_gap_ms"] < 1000 * SLACK
        assert row["memory_after_mib"] < row["memory_before_mib"] + 50
