"""Hostile inputs at a running gateway: what each does to `/healthz`, to an honest stream, and to memory.

Servers first: orchestrators found by discovery, answers to a job's start, workers' streams and events. Then
strangers at `-httpAddr`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from aiohttp import web

from benchmarks.hostile.orchestrator import FLOODS, WAYS, FreeOrchestrator, flooding, free_orchestrator
from benchmarks.hostile.strangers import IDLE_CONNECTIONS, MANY_CONNECTIONS, MEGABYTE, OFFER, Strangers
from harness.gateway import GatewayProcess, gateway_process
from harness.hostile_streams import HOSTILE_STREAMS
from harness.serving import serving
from harness.waiting import eventually
from harness.webrtc import WhepViewer, WhipPublisher, encoded_pattern, longest_gap

FLOOD_BYTES = 10_000_000
TARGET_MS = 50
SETTLE = 1.0
"""Seconds after an input for what it does to be seen."""

Input = Callable[[], Awaitable[None]]


class Bench:
    """A gateway with an honest stream, beside which inputs are tried."""

    def __init__(
        self, gateway: GatewayProcess, http: aiohttp.ClientSession, orchestrator: FreeOrchestrator
    ) -> None:
        self.gateway = gateway
        self.http = http
        self.orchestrator = orchestrator
        self.listed = [orchestrator.addr]
        self.viewer: WhepViewer | None = None
        self.asker: asyncio.subprocess.Process | None = None
        self.units = encoded_pattern()

    async def slowest(self) -> float:
        """Seconds of the slowest answer of `/healthz` since the last time."""
        assert self.asker is not None
        assert self.asker.stdin is not None
        assert self.asker.stdout is not None
        self.asker.stdin.write(b"\n")
        return float(await self.asker.stdout.readline())

    async def row(self, name: str, give: Input) -> dict[str, Any]:
        assert self.viewer is not None
        memory = psutil.Process(self.gateway.pid)
        before, began = memory.memory_info().rss, time.monotonic()
        await self.slowest()
        with suppress(aiohttp.ClientError, OSError):
            await give()
        await asyncio.sleep(SETTLE)
        gap = longest_gap(at for at in self.viewer.times if at > began - SETTLE)
        return {
            "figure": name,
            "healthz_slowest_ms": round(1000 * await self.slowest(), 1),
            "honest_gap_ms": round(1000 * gap),
            "memory_before_mib": round(before / MEGABYTE),
            "memory_after_mib": round(memory.memory_info().rss / MEGABYTE),
        }

    async def few_files(self) -> None:
        """As `ulimit -n 1024` would have it."""
        process = psutil.Process(self.gateway.pid)
        former = process.rlimit(psutil.RLIMIT_NOFILE)
        process.rlimit(psutil.RLIMIT_NOFILE, (1024, former[1]))
        try:
            await Strangers(self.gateway, self.http).idle(MANY_CONNECTIONS)
        finally:
            process.rlimit(psutil.RLIMIT_NOFILE, former)

    # servers

    async def bad_list(self) -> None:
        bad = [f"https://user:word@127.0.0.1:{number}/" for number in range(8_000)]
        self.listed += bad
        await asyncio.sleep(SETTLE)
        del self.listed[-len(bad) :]

    async def many_models(self) -> None:
        async with AsyncExitStack() as stack:
            others = [await stack.enter_async_context(free_orchestrator()) for _ in range(20)]
            for one in others:
                one.offer_models(6_000)
            self.listed += [one.addr for one in others]
            await eventually(lambda: self._known(others[-1].addr), what="the orchestrators with models")
            strangers = Strangers(self.gateway, self.http)
            for _ in range(3):
                await strangers.offer("o", "whip?pipeline=unknown", OFFER)
            del self.listed[-len(others) :]

    async def listed_flood(self, unit: bytes) -> None:
        async with flooding(unit, FLOOD_BYTES) as addr:
            self.listed.append(addr)
            await eventually(lambda: self._known(addr), what="the flooding orchestrator")
            await asyncio.sleep(SETTLE)
            self.listed.remove(addr)

    async def _known(self, addr: str) -> bool:
        state = await self.gateway.get("orchestrators")
        found = [one["detail"] for one in state["orchestrators"] if one["addr"] == addr]
        return bool(found) and "not answered" not in found[0]

    async def job(self, name: str, seconds: float = 3.0) -> None:
        """A stream whose job gets what is written down for its name."""
        async with WhipPublisher(self.http, self.gateway.live(f"{name}/whip"), units=self.units):
            await asyncio.sleep(seconds)


async def measure(folder: Path, only: Collection[str] = ()) -> AsyncIterator[dict[str, Any]]:
    """A row for each input, or for those that are called as in `only`."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        orchestrator = await stack.enter_async_context(free_orchestrator())
        listed: list[list[str]] = [[orchestrator.addr]]

        async def webhook(_: web.Request) -> web.Response:
            return web.json_response([{"address": addr} for addr in listed[0]])

        url = await stack.enter_async_context(serving(web.get("/", webhook)))
        flags = ("-orchWebhookUrl", url, "-discoveryInterval", "200ms", "-maxRequestsPerAddress", "0")
        gateway = await stack.enter_async_context(gateway_process(folder, *flags, "-v", "3", devnet=False))
        bench = Bench(gateway, http, orchestrator)
        listed[0] = bench.listed
        bench.asker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.hostile.healthz", gateway.url),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        stack.callback(bench.asker.kill)
        publisher = WhipPublisher(http, gateway.live("honest/whip"), units=bench.units)
        await stack.enter_async_context(publisher)
        bench.viewer = await stack.enter_async_context(WhepViewer(http, gateway.live("honest/whep")))
        viewer = bench.viewer
        await eventually(lambda: viewer.frames > 30, what="the honest stream")
        for name, give in _inputs(bench).items():
            if not only or name in only:
                yield {**await bench.row(name, give), "aim_ms": TARGET_MS}


def _inputs(bench: Bench) -> dict[str, Input]:
    """What to give, by name."""
    strangers = Strangers(bench.gateway, bench.http)
    inputs: dict[str, Input] = {"nothing": partial(asyncio.sleep, 3.0)}
    for name, unit in FLOODS.items():
        inputs[f"10 MB of HTTP/2 {name}"] = partial(bench.listed_flood, unit)
    answers = {
        "deep": b"[" * 500_000,
        "wide": b"[" + b"[]," * 300_000 + b"0]",
        "compressed": gzip.compress(bytes(64 * MEGABYTE)),
        "inside": b'{"manifest_id":"m","publish_url":"http://169.254.169.254/"}',
    }
    bench.orchestrator.answers = answers
    for name in answers:
        inputs[f"answer to a job's start: {name}"] = partial(bench.job, name)
    for number, (name, data) in enumerate(HOSTILE_STREAMS.items()):
        bench.orchestrator.outputs[f"out{number}"] = data
        inputs[f"transport stream: {name}"] = partial(bench.job, f"out{number}")
    large = json.dumps({"type": "status", "x": "y" * 250_000}).encode()
    for name, what in WAYS.items():
        inputs[f"output without end: {what}"] = partial(bench.job, name)
    for name, event in {"empty": b"", "nothing": b"{}", "large": large, "deep": b"[" * 200_000}.items():
        bench.orchestrator.events[f"event-{name}"] = event
        inputs[f"events without end: {name}"] = partial(bench.job, f"event-{name}")
    return inputs | {
        "six offers with 10,900 formats": strangers.offers,
        "a compressed body of 64 MiB": strangers.compressed,
        "10 updates of as many values as may be": strangers.values,
        "20 updates of 1 MB": strangers.updates,
        "deep and wide JSON": strangers.deep,
        "offers of a bundle with thousands of mids and candidates": strangers.bundles,
        "fragments of 64 KB of candidates": strangers.fragments,
        "numbers that JSON has not": strangers.no_numbers,
        "a list of 8,000 bad addresses": bench.bad_list,
        "20 infos of 6,000 models, and who asks for another": bench.many_models,
        f"{IDLE_CONNECTIONS} idle connections": strangers.idle,
        f"{MANY_CONNECTIONS} connections where 1,024 files may be open": bench.few_files,
        "long paths": strangers.long_paths,
    }
