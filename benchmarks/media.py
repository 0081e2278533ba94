"""Cost of the media path: CPU a stream and a packet, added delay, memory; a decoding server to compare.

The gateway or the part that is measured, the load and the devnet (which hands the stream on undecoded) are
processes of their own. The figures of one run belong together; those of two runs on a shared machine may not.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from harness.gateway import gateway_process
from harness.processes import line, program
from harness.waiting import eventually, within

LIFTED = [
    part
    for name in (
        "Streams",
        "StreamsPerAddress",
        "PaidStartsPerMinute",
        "Viewers",
        "ViewersPerStream",
        "ViewersPerAddress",
        "RequestsPerAddress",
    )
    for part in (f"-max{name}", "0")
]
GATEWAY_FLAGS = ["-effect", "none", "-capacity", "1000", "-v", "1", *LIFTED]
LOAD_LIMIT = 0.9
"""Share of a core above which the load generator, not the gateway, is taken for the limit."""
MACHINE_LIMIT = 90
"""Percent of all cores above which a lost frame says nothing about the gateway."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    height: int = 720
    """Pixels of a picture."""
    seconds: float = 10.0
    warm_up: float = 3.0
    baseline: tuple[int, ...] = (1, 4, 8)
    """Publishers into the decoding server; more of them would need more cores than two."""
    streams: tuple[int, ...] = (1, 4, 8, 16, 24, 32, 48, 64, 80, 96)
    delay_streams: int = 8
    viewers: tuple[int, ...] = (1, 10, 50)
    connects: int = 300
    settled: int = 50
    """Connects after which memory should not grow any more."""


FULL = Plan()
SHORT = Plan(
    height=180,
    seconds=0.6,
    warm_up=0.2,
    baseline=(1,),
    streams=(1,),
    delay_streams=1,
    viewers=(1, 2),
    connects=2,
    settled=1,
)


async def measure(folder: Path, plan: Plan = FULL) -> AsyncIterator[dict[str, Any]]:
    baselines: list[dict[str, Any]] = []
    for count in plan.baseline:
        baselines.append(await part_cpu("decode", "publish", count, plan))
        yield {"figure": "a plain aiortc server that decodes (baseline)", **baselines[-1]}
        ingest = await part_cpu("ingest", "publish", count, plan)
        yield {
            "figure": "ingest alone, to the coded picture",
            **ingest,
            "ratio_to_baseline": _ratio(ingest, baselines),
            "aim_ratio": 0.15,
        }
    async for row in whole_loop(folder, plan, baselines):
        yield row
    yield await added_delay(folder, plan)
    egress = [await part_cpu("egress", "watch", viewers, plan) for viewers in plan.viewers]
    for row in egress:
        yield {"figure": "egress alone: one stream to its viewers", **row}
    yield extra_viewer(egress[0], egress[-1])
    yield await memory_growth(folder, plan)


def extra_viewer(few: dict[str, Any], many: dict[str, Any]) -> dict[str, Any]:
    """What each viewer beyond the first ones costs."""
    cores = [row["core_percent_per_session"] * row["sessions"] / 100 for row in (few, many)]
    packets = [row["packets_per_second"] for row in (few, many)]
    return {
        "figure": "an extra viewer of a stream",
        "viewers": [few["sessions"], many["sessions"]],
        "us_per_packet": round(1e6 * (cores[1] - cores[0]) / (packets[1] - packets[0]), 1),
        "aim_us_per_packet": 25,
    }


class LoadEnded(Exception):
    """The load generator could not go on."""


class Load:
    """The load generator's process."""

    def __init__(self, process: asyncio.subprocess.Process, way: str) -> None:
        self._process = process
        self._watches = way in ("both", "watch")

    @classmethod
    @asynccontextmanager
    async def running(cls, way: str, url: str, count: int, plan: Plan) -> AsyncIterator[Load]:
        """Up once every session is connected."""
        async with _program("harness.load", way, url, str(count), str(plan.height)) as process:
            load = cls(process, way)
            if way != "churn":
                await load.line()
            yield load

    async def line(self) -> dict[str, Any]:
        said = await line(self._process, deadline=120)
        if not said:
            raise LoadEnded("see the load generator's standard error")
        return dict(json.loads(said))

    async def counters(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return await self.line()

    async def _watched(self) -> bool:
        return bool((await self.counters())["frames_received"])

    async def window(self, measured: psutil.Process, plan: Plan) -> dict[str, float]:
        """What passed in some seconds after the first frame: CPU of both processes, packets, frames."""
        if self._watches:
            await eventually(self._watched, what="the first frame at a viewer")
        await asyncio.sleep(plan.warm_up)
        psutil.cpu_percent()  # counts from here
        first, cpu = await self.counters(), _cpu(measured)
        await asyncio.sleep(plan.seconds)
        last, cpu_after = await self.counters(), _cpu(measured)
        passed = {name: last[name] - first[name] for name in last}
        return {**passed, "measured_cpu": cpu_after - cpu, "machine_percent": psutil.cpu_percent()}


async def part_cpu(part: str, way: str, count: int, plan: Plan) -> dict[str, Any]:
    """Percent of a core for `count` sessions of a part alone, and microseconds a packet."""
    async with _program("benchmarks.parts", part, str(plan.height)) as server:
        url = (await line(server)).decode().strip()
        async with Load.running(way, url + "/session", count, plan) as load:
            passed = await load.window(psutil.Process(server.pid), plan)
    packets = passed["packets_sent"] if way == "publish" else passed["packets_received"]
    return {
        "sessions": count,
        "core_percent_per_session": round(100 * passed["measured_cpu"] / passed["at"] / count, 2),
        "us_per_packet": round(1e6 * passed["measured_cpu"] / max(packets, 1), 1),
        "packets_per_second": round(packets / passed["at"]),
        "load_core_percent": round(100 * passed["cpu"] / passed["at"]),
    }


async def whole_loop(
    folder: Path, plan: Plan, baselines: list[dict[str, Any]]
) -> AsyncIterator[dict[str, Any]]:
    """Publishers with one viewer each through gateway and devnet, more and more until frames are lost."""
    figure = "the whole loop: publishers with one viewer each"
    for count in plan.streams:
        try:
            async with gateway_process(folder, *GATEWAY_FLAGS) as gateway:
                process = psutil.Process(gateway.pid)
                idle = process.memory_info().rss
                async with Load.running("both", gateway.live("bench{n}/{way}"), count, plan) as load:
                    passed = await load.window(process, plan)
                    memory = process.memory_info().rss - idle
        except LoadEnded:
            yield {"figure": figure, "sessions": count, "limit": "not all of them were taken"}
            return
        share = passed["measured_cpu"] / passed["at"]
        row = {
            "figure": figure,
            "sessions": count,
            "core_percent_per_session": round(100 * share / count, 2),
            "streams_per_core": round(count / share, 1),
            "frames_sent": passed["frames_sent"],
            "frames_received": passed["frames_received"],
            "packets_missing": passed["packets_missing"],
            "memory_mib_per_stream": round(memory / count / 2**20, 2),
            "load_core_percent": round(100 * passed["cpu"] / passed["at"]),
            "machine_percent": round(passed["machine_percent"]),
        }
        row["ratio_to_baseline"] = _ratio(row, baselines)
        row["aim_ratio"] = 0.35
        limit = limit_of(passed)
        yield {**row, "limit": limit} if limit else row
        if limit:
            return


def limit_of(passed: dict[str, float]) -> str | None:
    """What was at its limit; None where all frames came."""
    if passed["cpu"] / passed["at"] > LOAD_LIMIT:
        return "the load generator"
    if passed["frames_received"] < 0.97 * passed["frames_sent"] or passed["packets_missing"] > 0:
        busy = passed["machine_percent"] > MACHINE_LIMIT
        return "this machine, all cores busy" if busy else "frames were lost"
    return None


async def added_delay(folder: Path, plan: Plan) -> dict[str, Any]:
    """From the last packet of a frame in to its last byte handed to the orchestrator's connection."""
    report = folder / "delays.json"
    os.environ["BENCH_DELAYS"] = str(report)
    program = (sys.executable, "-m", "benchmarks.timed_gateway")
    async with gateway_process(folder, *GATEWAY_FLAGS, program=program) as gateway:
        process = psutil.Process(gateway.pid)
        process.cpu_affinity(process.cpu_affinity()[:1])
        async with Load.running("both", gateway.live("bench{n}/{way}"), plan.delay_streams, plan) as load:
            await asyncio.sleep(plan.warm_up)
            process.send_signal(signal.SIGUSR1)
            await load.window(process, plan)
    delays = sorted(json.loads(report.read_text()))
    centiles = statistics.quantiles(delays, n=100, method="inclusive")
    return {
        "figure": "milliseconds from a frame's last packet to the orchestrator's connection",
        "streams": plan.delay_streams,
        "frames": len(delays),
        "p50": round(1000 * centiles[49], 2),
        "p99": round(1000 * centiles[98], 2),
        "max": round(1000 * delays[-1], 2),
        "aim_p50": 2,
        "aim_p99": 10,
    }


async def memory_growth(folder: Path, plan: Plan) -> dict[str, Any]:
    """The gateway's memory over publishers that come and go, each with a job and its payment."""
    async with gateway_process(folder, *GATEWAY_FLAGS) as gateway:
        process = psutil.Process(gateway.pid)
        started = settled = process.memory_info().rss
        async with Load.running("churn", gateway.live("churn{n}/{way}"), plan.connects, plan) as load:
            for number in range(plan.connects):
                await load.line()
                if number + 1 == plan.settled:
                    settled = process.memory_info().rss
        ended = process.memory_info().rss
    return {
        "figure": "MiB of memory over connects and disconnects",
        "connects": plan.connects,
        "at_start": round(started / 2**20, 1),
        f"after_{plan.settled}": round(settled / 2**20, 1),
        "at_end": round(ended / 2**20, 1),
        "growth_since": round((ended - settled) / 2**20, 2),
        "aim_growth": 1,
    }


def _cpu(process: psutil.Process) -> float:
    """Seconds that its threads ran, by the scheduler's clock: the usual one has steps of 10 ms."""
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def _ratio(one: dict[str, Any], baselines: list[dict[str, Any]]) -> float:
    """Against the baseline of as many sessions, or of the most there are."""
    same = [row for row in baselines if row["sessions"] <= one["sessions"]]
    baseline = max(same or baselines, key=lambda row: int(row["sessions"]))
    return round(float(one["core_percent_per_session"]) / float(baseline["core_percent_per_session"]), 3)


@asynccontextmanager
async def _program(module: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A module run as a program, ended by the end of its standard input."""
    pipe = asyncio.subprocess.PIPE
    async with program(sys.executable, "-m", module, *arguments, stdin=pipe, stdout=pipe) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        await within(process.wait(), what=module)
