"""The chaos run on nodes of a cluster, on NATS and PostgreSQL of its own: what must hold over all of them."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from contextlib import AsyncExitStack
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.chaos import books
from benchmarks.chaos.chaos_node import ChaosNode
from benchmarks.chaos.cluster_ledger import ClusterLedger, signed_by_two
from benchmarks.chaos.name_history import Gap, keep_history, read_history, taken_from_the_living, taken_over
from benchmarks.chaos.node_faults import NodesScene, drawn
from benchmarks.chaos.poor_publishers import (
    CUSTOMER,
    LIMIT_WEI,
    RICH_TOKEN,
    TOKEN,
    TOKENS,
    PoorPublishers,
    http_of,
)
from benchmarks.chaos.roaming_stream import RoamingStream
from harness.devnet import devnet_process, network_flags
from harness.ledger import verify
from harness.nats import nats_server
from harness.postgresql import postgresql_server
from harness.waiting import eventually

STREAMS = 6
RECOVERY = 40.0
"""Seconds after a fault is made good within which every stream shows the effect again."""
CLUSTER = "chaos"
PRICE = 10**15
"""Wei a second, of all orchestrators."""
LIMIT_ETH = 10
NETWORK = ("-orchestrators", "3", "-capacity", "12", "-prices", str(PRICE), "-restart")
FLAGS = (
    *("-clusterName", CLUSTER, "-resumeTimeout", "60s", "-maxSwaps", "1000000", "-maxPaidStarts", "1000000"),
    *("-livePaymentInterval", "1s", "-liveOutSegmentTimeout", "5s", "-ingestTimeout", "30s"),
    *("-discoveryInterval", "500ms", "-maxSpendPerHour", f"{LIMIT_ETH}ETH"),
)
CLIENT_TIMEOUT = 10.0


class NodesRun:
    """One run: `broken` collects the promises that did not hold, each as a sentence."""

    def __init__(self, scene: NodesScene) -> None:
        self.broken: list[str] = []
        self.gaps: dict[str, list[float]] = {}
        """By the fault's name, of all streams."""
        self.lost: set[str] = set()
        self.faults: Counter[str] = Counter()
        self._scene = scene
        self._began = time.monotonic()

    async def fault(self) -> None:
        """Draw a fault, do it, make it good, and see everybody recover; one line."""
        scene, fault = self._scene, drawn(self._scene)
        self.faults[fault.name] += 1
        since = time.monotonic()
        async with fault.begin(scene) as what:
            await asyncio.sleep(scene.random.uniform(*fault.hold))
        recovered = await self._recover(fault.name)
        gaps = [stream.longest_gap(since) for stream in scene.streams]
        self.gaps.setdefault(fault.name, []).extend(gaps)
        print(
            f"{since - self._began:7.1f} s  {fault.name} ({what}): "
            f"longest gap {max(gaps):.2f} s, {recovered}",
            flush=True,
        )

    async def _recover(self, name: str) -> str:
        good_again, ready = time.monotonic(), False
        while time.monotonic() - good_again < RECOVERY:
            nodes = self._scene.nodes
            steady = all(stream.steady() for stream in self._scene.streams)
            ready = all([await node.ready(self._scene.http, len(nodes)) for node in nodes])
            if steady and ready:
                await self._note_lost(name)
                return f"all well {time.monotonic() - good_again:.1f} s later"
            await asyncio.sleep(0.1)
        waiting = [stream.name for stream in self._scene.streams if not stream.steady()]
        self.broken.append(f"{RECOVERY:.0f} s after {name}: {waiting or 'not ready'}")
        for stream in self._scene.streams:
            if not stream.steady():
                print(f"          {stream.name} at {stream.owner}: {list(stream.refusals)[-3:]}", flush=True)
        return f"not well: {waiting or 'not ready'}"

    async def _note_lost(self, name: str) -> None:
        for stream in self._scene.streams:
            why = await stream.lost()
            if why and stream.name not in self.lost:
                self.lost.add(stream.name)
                self.broken.append(f"{stream.name} was lost after {name}: {why}")


async def nodes_chaos(minutes: float, seed: int, folder: Path, *, nodes: int) -> dict[str, Any]:
    """A run on so many nodes; gives its summary."""
    print(f"scripts/chaos -nodes {nodes} -minutes {minutes:g} -seed {seed}", flush=True)
    names = [f"node{number}" for number in range(1, nodes + 1)]
    with nats_server() as nats, postgresql_server() as postgresql:
        ledger = ClusterLedger(postgresql.database())
        await ledger.make_users(names)
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(http_of(RICH_TOKEN, CLIENT_TIMEOUT))
            poor_http = await stack.enter_async_context(http_of(TOKEN, CLIENT_TIMEOUT))
            tokens = folder / "tokens"
            tokens.write_text(TOKENS)
            devnet = await stack.enter_async_context(devnet_process(folder, *NETWORK))
            gaps: list[Gap] = []
            shared = (*network_flags(devnet), *FLAGS, "-cluster", nats.url, "-publishTokens", str(tokens))
            made = []
            for name in names:
                own = ("-nodeName", name, "-ledger", ledger.of(name), "-dataDir", str(folder / name))
                node = ChaosNode(name, folder, (*shared, *own), gaps)
                stack.push_async_callback(node.close)
                await node.start()
                made.append(node)
            await eventually(lambda: _all_ready(made, http), what="the nodes to know each other")
            await ledger.watch()
            await keep_history(nats.url, CLUSTER)
            streams = [
                await stack.enter_async_context(RoamingStream(made, http, f"stream{n}", seed + n))
                for n in range(STREAMS)
            ]
            poor = await stack.enter_async_context(PoorPublishers(made, poor_http, seed))
            scene = NodesScene(made, streams, devnet, nats, postgresql, http, random.Random(seed))
            run = NodesRun(scene)
            until = time.monotonic() + 60 * minutes
            while time.monotonic() < until:
                await run.fault()
                await asyncio.sleep(0.5)
            await poor.stop()
            for stream in streams:
                await stream.stop()
            run.broken += await _left_behind(made, ledger)
            for orchestrator in devnet["orchestrators"]:
                await scene.read_audit(orchestrator)
            history = await read_history(nats.url, CLUSTER)
        entries, signed = await ledger.entries(), await ledger.signed()
        run.broken += taken_from_the_living(history, gaps)
        run.broken += signed_by_two(signed)
        try:
            await verify(ledger.url)
        except AssertionError as error:
            run.broken.append(f"ledger verify: {error}")
        wei = books.unexplained(entries, scene.lives)
        if wei:
            run.broken.append(f"{wei} wei are unexplained")
        spent, of_poor = (
            sum((entry.value for entry in entries), Fraction(0)),
            await ledger.spent_for(CUSTOMER),
        )
        above = max(0, ceil(spent - LIMIT_ETH * 10**18), ceil(of_poor - LIMIT_WEI))
        if above:
            run.broken.append(f"the limit was exceeded by {above} wei")
        for life in scene.lives:
            wrong = books.faults_in(life.audit, books.handed_out_again(entries, life.address))
            if wrong:
                run.broken.append(f"the audit of {life.address}: {wrong}")
    for log in (log for node in made for log in node.logs):
        failed = [line for line in log.read_text().splitlines() if "task failed" in line]
        run.broken += [f"a task failed: {line}" for line in failed]
    return {
        "minutes": minutes,
        "seed": seed,
        "nodes": nodes,
        "streams": STREAMS,
        "faults": run.faults.total(),
        "faults_by_name": dict(run.faults),
        "streams_lost": len(run.lost),
        "gap_by_fault_s": {
            name: {"p50": round(statistics.median(gaps), 2), "max": round(max(gaps), 2)}
            for name, gaps in run.gaps.items()
        },
        "publishes": sum(stream.publishes for stream in streams),
        "names_written": len(history),
        "names_taken_over": len(taken_over(history)),
        "names_taken_from_the_living": len(taken_from_the_living(history, gaps)),
        "sessions": len({one.session for one in signed}),
        "sessions_with_more_than_one_epoch": _taken_over(signed),
        "payments": len(entries),
        "wei_unexplained": wei,
        "wei_above_limits": above,
        "limit_used": f"{float(of_poor / LIMIT_WEI):.1%}",
        "publishes_under_a_limit": dict(poor.outcomes),
        "broken": run.broken,
    }


def _taken_over(signed: Any) -> int:
    """How many sessions were gone on with by another run."""
    epochs: dict[int, set[int]] = {}
    for one in signed:
        epochs.setdefault(one.session, set()).add(one.epoch)
    return sum(len(of) > 1 for of in epochs.values())


async def _all_ready(nodes: list[ChaosNode], http: aiohttp.ClientSession) -> bool:
    return all([await node.ready(http, len(nodes)) for node in nodes])


async def _left_behind(nodes: list[ChaosNode], ledger: ClusterLedger) -> list[str]:
    """What ended streams left behind."""
    try:
        for node in nodes:
            await node.gateway.given_back(after=f"the run at {node.name}")
    except AssertionError as error:
        return [str(error)[:1000]]
    still_open = await ledger.left_open()
    return [f"the ledger has {still_open} open sessions"] if still_open else []
