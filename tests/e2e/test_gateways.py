"""`scripts/run -gateways 3`, as the documents name it: three nodes that are restarted, and end with it."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from harness.gateway import GatewayProcess, gateway_process
from harness.reconnecting import ReconnectingPublisher
from harness.waiting import eventually, within
from harness.webrtc import WhepViewer, WhipPublisher

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
FLAGS = (
    *("-gateways", "3", "-restart", "-orchestrators", "1", "-v", "4"),
    *("-livePaymentInterval", "1s", "-resumeTimeout", "60s"),
)
STREAMS = 3
START = 120.0
"""Seconds until all are ready: some ten processes start at once."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateways(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateways")
    async with gateway_process(
        folder, *FLAGS, devnet=False, program=(ROOT / "scripts/run",), ready_deadline=START
    ) as gateway:
        yield gateway


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid)]


def folder_of(devnet: dict[str, Any]) -> Path:
    """Where the private PostgreSQL is, in the folder of all that is temporary."""
    return Path(devnet["postgresql"]["url"].partition("?host=")[2]).parent


async def test_a_viewer_on_another_node_gets_the_picture_and_all_say_who_does_what(
    gateways: GatewayProcess,
) -> None:
    devnet = await gateways.devnet()
    nodes = {node["id"]: node["url"] + "/live/video-to-video/" for node in devnet["nodes"]}
    assert list(nodes) == ["node-1", "node-2", "node-3"]
    async with WhipPublisher(gateways.http, gateways.live("show/whip")) as publisher:
        owner = (await gateways.status("show"))["node"]
        assert publisher.headers["Livepeer-Node"] == owner
        other = next(name for name in nodes if name != owner)
        async with WhepViewer(gateways.http, nodes[other] + "show/whep") as viewer:
            await eventually(lambda: viewer.shows_negative, what="the picture through another node")

            async def counted() -> bool:
                said = {one["name"]: one for one in (await gateways.get("nodes"))["nodes"]}
                return (said[owner]["streams"], said[other]["viewers"]) == (1, 1)

            await eventually(counted)
        await publisher.stop(resume=False)


async def test_in_a_rolling_restart_publishers_that_reconnect_get_their_paid_jobs_back(
    gateways: GatewayProcess,
) -> None:
    names = [f"cam{number}" for number in range(STREAMS)]

    async def statuses() -> list[dict[str, Any]]:
        return [await gateways.status(name) for name in names]

    async def all_live() -> list[dict[str, Any]]:
        found = await statuses()
        return found if all(one["state"] == "live" for one in found) else []

    first_payments = (await gateways.signer_audit())["null_states"]
    async with AsyncExitStack() as stack:
        publishers = {
            name: await stack.enter_async_context(
                ReconnectingPublisher(gateways.http, gateways.live(f"{name}/whip"))
            )
            for name in names
        }
        before = await eventually(all_live, what="all streams")
        for node in (await gateways.devnet())["nodes"]:
            restarted = [name for name, one in publishers.items() if one.node == node["id"]]
            connections = {name: publishers[name].connections for name in restarted}
            os.kill(node["pid"], signal.SIGTERM)
            await eventually(
                lambda: all(publishers[name].connections > connections[name] for name in restarted),  # noqa: B023
                what=f"publishers of {node['id']} to be accepted again",
            )
            await eventually(all_live, what=f"all streams after {node['id']}")
            await eventually(lambda: serves_again(gateways, node), what=f"{node['id']} to be back")  # noqa: B023
        after = await statuses()
        assert sum(one["resumed"] for one in after) >= STREAMS, "each was on a node that was restarted"
        for former, now in zip(before, after, strict=True):
            assert (now["request_id"], now["swaps"]) == (former["request_id"], 0)
            assert now["orchestrator"] == former["orchestrator"]
    assert (await gateways.signer_audit())["null_states"] - first_payments == STREAMS, "no preload twice"


async def serves_again(gateways: GatewayProcess, before: dict[str, Any]) -> bool:
    """Whether another process of the node takes publishers, as all nodes know."""
    pids = {node["id"]: node["pid"] for node in (await gateways.devnet())["nodes"]}
    if pids[before["id"]] == before["pid"]:
        return False
    known = (await gateways.get("nodes"))["nodes"]
    return len(known) == len(pids) and all(one["takes_publishers"] for one in known)


async def test_they_end_together_and_leave_nothing(gateways: GatewayProcess) -> None:
    devnet = await gateways.devnet()
    pids = [child.pid for child in psutil.Process(gateways.pid).children(recursive=True)]
    assert {devnet[part]["pid"] for part in ("nats", "postgresql")} <= set(pids)
    gateways.process.send_signal(signal.SIGINT)
    assert await within(gateways.process.wait()) == 0
    assert not alive(pids)
    assert not folder_of(devnet).exists()
    said = gateways.log.read_text()
    assert all(f"node={node['id']}" in said for node in devnet["nodes"])


async def test_nothing_outlives_gateways_that_are_killed(tmp_path: Path) -> None:
    async with gateway_process(tmp_path, "-gateways", "2", ready_deadline=START) as gateway:
        devnet = await gateway.devnet()
        children = psutil.Process(gateway.pid).children(recursive=True)
        gateway.process.kill()
        await gateway.process.wait()
        await eventually(lambda: not alive([child.pid for child in children]))
        assert not folder_of(devnet).exists()
