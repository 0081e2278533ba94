"""The whole loop: time to ready, time to the first changed frame, CPU for one stream."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from harness.devnet import devnet_process, network_flags
from harness.gateway import GatewayProcess, gateway_process
from harness.waiting import eventually
from harness.webrtc import WhepViewer, WhipPublisher, encoded_pattern

AS_SHIPPED = ("-orchestrators", "2")
"""A devnet as it is where nothing is said of it."""
RUNS = 5
CPU_SECONDS = 10.0


async def measure(folder: Path) -> AsyncIterator[dict[str, Any]]:
    units = await asyncio.to_thread(encoded_pattern, 1280, 720)
    async with aiohttp.ClientSession() as http, gateway_process(folder, *AS_SHIPPED, "-v", "3") as gateway:
        yield {
            "figure": "seconds to ready with devnet",
            "value": round(gateway.seconds_to_ready, 2),
            "aim": 8,
        }
        times = [await first_changed_frame(gateway, http, units, f"run{n}") for n in range(RUNS)]
        yield {
            "figure": "seconds from WHIP POST to the first changed frame at a waiting viewer",
            "median": round(statistics.median(times), 2),
            "min": round(min(times), 2),
            "max": round(max(times), 2),
            "aim": 2,
        }
        yield {
            "figure": "percent of a core for one 720p30 stream with one viewer",
            **await cpu_by_process(gateway, http, units),
        }
    async with (
        devnet_process(folder, *AS_SHIPPED) as devnet,
        gateway_process(folder, *network_flags(devnet), devnet=False) as gateway,
    ):
        yield {
            "figure": "seconds to ready without devnet",
            "value": round(gateway.seconds_to_ready, 2),
            "aim": 2,
        }


async def first_changed_frame(
    gateway: GatewayProcess, http: aiohttp.ClientSession, units: list[bytes], name: str
) -> float:
    async with WhepViewer(http, gateway.live(f"{name}/whep")) as viewer:
        await eventually(lambda: viewer.peer.connectionState == "connected", what="the viewer")
        publisher = WhipPublisher(http, gateway.live(f"{name}/whip"), units=units)
        posted = time.monotonic()
        async with publisher:
            await eventually(lambda: viewer.shows_negative, every=0.005, what="the changed picture")
            return time.monotonic() - posted


async def cpu_by_process(
    gateway: GatewayProcess, http: aiohttp.ClientSession, units: list[bytes]
) -> dict[str, float]:
    devnet = await gateway.devnet()
    processes = {
        "gateway": psutil.Process(gateway.pid),
        "signer": psutil.Process(devnet["signer_pid"]),
        "runner": psutil.Process(devnet["runner_pid"]),
        "orchestrator": psutil.Process(devnet["orchestrators"][0]["pid"]),
    }
    async with (
        WhepViewer(http, gateway.live("cpu/whep")) as viewer,
        WhipPublisher(http, gateway.live("cpu/whip"), units=units),
    ):
        await eventually(lambda: viewer.shows_negative, what="the changed picture")
        before = {name: _seconds(process) for name, process in processes.items()}
        frames, started = viewer.frames, time.monotonic()
        await asyncio.sleep(CPU_SECONDS)
        took = time.monotonic() - started
        percent = {name: round(100 * (_seconds(p) - before[name]) / took, 1) for name, p in processes.items()}
        return {**percent, "viewer_fps": round((viewer.frames - frames) / took, 1)}


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
