"""The ledger benchmark runs on both databases, and removes old payments."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import ledger


@pytest.mark.asyncio
async def test_a_small_ledger_is_measured_on_both_databases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PAYMENTS": 2000, "TIMED": 40, "WRITTEN": 100}.items():
        monkeypatch.setattr(ledger, name, value)
    rows = [row async for row in ledger.measure(tmp_path)]
    assert {row["engine"] for row in rows} == {"sqlite", "postgresql"}
    assert all(row.get("value", 0) >= 0 for row in rows)
    assert [row["removed"] > 0 for row in rows if "removed" in row] == [True, True]
    assert [row["lines"] for row in rows if "lines" in row] == [800, 800, 160] * 2
