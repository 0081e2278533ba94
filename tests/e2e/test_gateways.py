"""`scripts/run -gateways 3`, as the documents name it: three nodes that end with it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from harness.gateway import gateway_process
from harness.waiting import eventually, within
from harness.webrtc import WhepViewer, WhipPublisher

pytestmark = pytest.mark.asyncio

ROOT = Path(__file__).parents[2]


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid)]


def folder_of(devnet: dict[str, Any]) -> Path:
    """Where the private PostgreSQL is, in the folder of all that is temporary."""
    return Path(devnet["postgresql"]["url"].partition("?host=")[2]).parent


async def test_three_gateways_share_a_port_and_a_ledger_and_end_together(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    flags = ("-gateways", "3", "-livePaymentInterval", "1s", "-v", "4")
    program = (ROOT / "scripts/run",)
    async with gateway_process(
        tmp_path, *flags, "-orchestrators", "1", devnet=False, program=program
    ) as gateway:
        devnet = await gateway.devnet()
        nodes = {node["id"]: node["url"] + "/live/video-to-video/" for node in devnet["nodes"]}
        assert list(nodes) == ["node-1", "node-2", "node-3"]
        async with WhipPublisher(http, gateway.live("cam/whip")) as publisher:
            owner = (await gateway.status("cam"))["node"]
            assert publisher.headers["Livepeer-Node"] == owner
            other = next(name for name in nodes if name != owner)
            async with WhepViewer(http, nodes[other] + "cam/whep") as viewer:
                await eventually(lambda: viewer.shows_negative, what="the picture through another node")

                async def counted() -> bool:
                    said = {one["name"]: one for one in (await gateway.get("nodes"))["nodes"]}
                    return (said[owner]["streams"], said[other]["viewers"]) == (1, 1)

                await eventually(counted)
        children = psutil.Process(gateway.pid).children(recursive=True)
        pids = [child.pid for child in children]
        assert {devnet[part]["pid"] for part in ("nats", "postgresql")} <= set(pids)
        gateway.process.send_signal(signal.SIGINT)
        assert await within(gateway.process.wait(), deadline=30) == 0
        assert not alive(pids)
        assert not folder_of(devnet).exists()
        nodes_in_log = gateway.log.read_text()
        assert all(f"node={name}" in nodes_in_log for name in nodes)


async def test_nothing_outlives_gateways_that_are_killed(tmp_path: Path) -> None:
    async with gateway_process(tmp_path, "-gateways", "2") as gateway:
        devnet = await gateway.devnet()
        children = psutil.Process(gateway.pid).children(recursive=True)
        gateway.process.kill()
        await gateway.process.wait()
        await eventually(lambda: not alive([child.pid for child in children]))
        assert not folder_of(devnet).exists()
