"""The short version of the media benchmark runs and gives all figures, whatever their values."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.media import SHORT, measure


@pytest.mark.asyncio
async def test_every_figure_comes_out(tmp_path: Path) -> None:
    rows = [row async for row in measure(tmp_path, SHORT)]
    figures = [row["figure"].split()[0] for row in rows]
    assert figures == ["a", "ingest", "the", "milliseconds", "egress", "egress", "an", "MiB"]
    baseline, ingest, loop, delay, *egress, _, memory = rows
    for row in (baseline, ingest, *egress):
        assert row["packets_per_second"] > 100
        assert row["us_per_packet"] > 0
    assert loop["frames_received"] > 0
    assert delay["frames"] > 10
    assert 0 < delay["p50"] <= delay["p99"]
    assert memory["at_end"] > 0
