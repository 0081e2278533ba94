"""The ledger benchmark runs on both databases, and removes old payments."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import ledger


@pytest.mark.asyncio
async def test_a_small_ledger_is_measured_on_both_databases(tmp_path: Path) -> None:
    plan = ledger.Plan(payments=2000, timed=40, written=100)
    rows = [row async for row in ledger.measure(tmp_path, plan)]
    assert {row["engine"] for row in rows} == {"sqlite", "postgresql"}
    assert all(row.get("value", 0) >= 0 for row in rows)
    assert [row["removed"] > 0 for row in rows if "removed" in row] == [True, True]
    assert [row["lines"] for row in rows if "lines" in row] == [800, 800, 160] * 2
