"""Short versions of what is measured of a cluster: costs of one operation, and of counting together."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import counting
from benchmarks.cluster_costs import costs
from harness.nats import nats_server

pytestmark = pytest.mark.asyncio


async def test_each_operation_has_its_costs() -> None:
    with nats_server() as nats:
        rows = [row async for row in costs(nats, 3)]
    assert len(rows) == 6
    assert all(row["node_cpu_us"] > 0 and row["ms_p50"] > 0 for row in rows)


async def test_nodes_pay_with_and_without_limits(tmp_path: Path) -> None:
    plan = counting.Plan(nodes=(1,), sessions=2, seconds=0.3)
    rows = [row async for row in counting.measure(tmp_path, plan)]
    assert [row["limits"] for row in rows] == ["none", "hour", "all"]
    assert all(row["payments_per_s"] > 0 for row in rows)
