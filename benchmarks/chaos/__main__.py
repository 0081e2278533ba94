"""`scripts/chaos [-minutes N] [-seed N] [-runners N | -nodes N]`: faults in a live devnet, what must hold."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from benchmarks.chaos import books
from benchmarks.chaos.discovery import Discovery
from benchmarks.chaos.faults import Scene, drawn, is_at
from benchmarks.chaos.nodes import nodes_chaos
from benchmarks.chaos.streams import ChaosStream
from gateway.devnet.settings import HOSTILE
from harness.devnet import devnet_process
from harness.gateway import BIN, GatewayProcess, gateway_process
from harness.ledger import left_open, verify
from harness.waiting import eventually

STREAMS = 6
WITH_STANDBY = 2
"""How many of them have a job that stands by."""
RECOVERY = 40.0
"""Seconds after a fault is made good within which every stream shows the effect again."""
MEMORY_GROWTH = 32 * 1024 * 1024
"""Bytes that the gateway's memory may grow by: allocators keep some of a burst's."""
CHEATS = tuple(kind for kind in HOSTILE if kind != "none")
CANDIDATES = 2 * len(CHEATS)
"""Half of them cheat, each in another way: of those for jobs, and of those of live runners."""
PRICE = 10**15
"""Wei a second, of all orchestrators."""
SILENCE = 5
"""Seconds without a picture after which a job is left."""
EMPTY_START = 60 + SILENCE + 3
"""Seconds of stream that a start without a picture costs at most: a preload, and what follows it."""
DIALECTS = ("go", "node")
"""Of the live runners: go-livepeer's by an even seed, livepeer/node's by an odd one."""
APP = "comfystream=livepeer-example/echo"
DEBIT = 5
"""Seconds that a live runner debits at once: its sessions of 10 s run out while the signer hangs."""
FLAGS = (
    *("-maxPricePerUnit", "0.001ETH", "-maxSwaps", "1000000"),
    # the devnet's orchestrators share one worker: when it dies, each takes a payment and shows nothing
    *("-maxPaidStarts", "1000000"),
    *("-livePaymentInterval", "1s", "-liveOutSegmentTimeout", f"{SILENCE}s", "-ingestTimeout", "30s"),
    *("-discoveryInterval", "500ms"),
)
# the log goes through a pipe: where the disk is full for the gateway, its log is not
PIPED = ("bash", "-c", 'exec "$0" "$@" 2> >(exec cat >&2)', BIN / "livepeer-gateway")


def network(runners: int, dialect: str) -> tuple[str, ...]:
    """The devnet's flags: so many of the candidates are live runners."""
    jobs = CANDIDATES - runners
    cheats = [*CHEATS[: jobs // 2], *["none"] * (jobs - jobs // 2), *CHEATS[jobs // 2 :]]
    return (
        *("-orchestrators", str(jobs), "-runners", str(runners), "-dialect", dialect),
        *("-prices", str(PRICE), "-hostile", ",".join(cheats), "-restart"),
    )


class Run:
    """One run: `broken` collects the promises that did not hold, each as a sentence."""

    def __init__(self, scene: Scene, http: aiohttp.ClientSession) -> None:
        self.broken: list[str] = []
        self.gaps: list[float] = []
        self.gaps_of_kills: list[float] = []
        self.gaps_with_standby: list[float] = []
        self.lost: set[str] = set()
        self.faults: Counter[str] = Counter()
        """How many, by name."""
        self._scene = scene
        self._http = http
        self._began = time.monotonic()

    async def fault(self) -> None:
        """Draw a fault, do it, make it good, and see everybody recover; one line."""
        scene, fault = self._scene, drawn(self._scene)
        self.faults[fault.name] += 1
        swaps_before = await self._swaps()
        since = time.monotonic()
        async with fault.begin(scene) as what:
            await asyncio.sleep(scene.random.uniform(*fault.hold))
        recovered = await self._recover(fault.name)
        swaps = await self._swaps() - swaps_before
        gaps = [stream.longest_gap(since) for stream in self._living()]
        self.gaps += gaps
        if fault.name == "kill -9 orchestrator":
            self.gaps_of_kills += gaps
            self.gaps_with_standby += [
                gap for gap, stream in zip(gaps, self._living(), strict=True) if stream.standby
            ]
        for stream in self._living():
            if not stream.times_rise():
                self.broken.append(f"{stream.name}: its times went back after {fault.name}")
        print(
            f"{since - self._began:7.1f} s  {fault.name} ({what}): {swaps} swaps, longest gap "
            f"{max(gaps, default=0):.2f} s, {recovered}, "
            f"{psutil.Process(scene.gateway.pid).memory_info().rss / 2**20:.1f} MiB",
            flush=True,
        )

    async def _recover(self, name: str) -> str:
        good_again = time.monotonic()
        while time.monotonic() - good_again < RECOVERY:
            await self._note_lost(name)
            if all(stream.steady() for stream in self._living()) and await self._all_up():
                return f"all well {time.monotonic() - good_again:.1f} s later"
            await asyncio.sleep(0.1)
        waiting = [stream.name for stream in self._living() if not stream.steady()]
        self.broken.append(f"{RECOVERY:.0f} s after {name}: {waiting or 'not ready'}")
        for stream in self._living():
            if not stream.steady():
                print(f"          {stream.name}: {json.dumps(await stream.condition())}", flush=True)
        return f"not well: {waiting or 'not ready'}"

    async def _note_lost(self, name: str) -> None:
        for stream in self._living():
            why = await stream.lost()
            if why:
                self.lost.add(stream.name)
                print(f"          {stream.name} is lost: {why}", flush=True)
                self.broken.append(f"{stream.name} was lost after {name}: {why}")

    def _living(self) -> list[ChaosStream]:
        return [stream for stream in self._scene.streams if stream.name not in self.lost]

    async def _all_up(self) -> bool:
        """Whether the gateway is ready and every orchestrator of the devnet answers it."""
        async with self._http.get(self._scene.gateway.url + "readyz") as response:
            if response.status != 200:
                return False
        known = await self._scene.gateway.get("orchestrators")
        answer = {entry["addr"] for entry in known["orchestrators"] if entry["verdict"] != "unreachable"}
        listed = [entry["url"] for entry in known.get("runners", ())]
        return all(one["addr"] in answer for one in self._scene.devnet["orchestrators"]) and all(
            any(is_at(url, one["url"]) for url in listed) for one in self._scene.devnet["runners"]
        )

    async def _swaps(self) -> int:
        return sum([await stream.swaps() for stream in self._living()])


async def chaos(minutes: float, seed: int, folder: Path, *, runners: int) -> dict[str, Any]:
    """A run where so many of the candidates are live runners; gives its summary."""
    ledger, dialect = folder / "ledger.sqlite3", DIALECTS[seed % 2]
    print(
        f"scripts/chaos -minutes {minutes:g} -seed {seed} -runners {runners}: {CANDIDATES - runners} "
        f"orchestrators of jobs, {runners} of live runners in the dialect {dialect!r}",
        flush=True,
    )
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http,
        devnet_process(folder, *network(runners, dialect)) as devnet,
        Discovery(
            (one["addr"] for one in devnet["orchestrators"]), (one["url"] for one in devnet["runners"]), http
        ) as discovery,
        gateway_process(
            folder,
            *(*FLAGS, "-remoteSignerUrl", devnet["signer"], "-orchWebhookUrl", discovery.url),
            *(("-app", APP, "-discoveryUrl", discovery.runners_url) if runners else ()),
            *("-ledger", str(ledger)),
            devnet=False,
            program=PIPED,
        ) as gateway,
    ):
        before, began = await gateway.get("debug/state"), time.monotonic()
        until = began + 60 * minutes
        async with AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(
                    ChaosStream(gateway, http, f"stream{n}", seed + n, standby=n < WITH_STANDBY)
                )
                for n in range(STREAMS)
            ]
            memory = psutil.Process(gateway.pid).memory_info().rss
            scene = Scene(gateway, devnet, streams, discovery, random.Random(seed))
            run = Run(scene, http)
            while time.monotonic() < until:
                await run.fault()
                await asyncio.sleep(0.5)
            grown = psutil.Process(gateway.pid).memory_info().rss - memory
            for stream in streams:
                await stream.stop()
        run.broken += await left_behind(gateway, before)
        for orchestrator in scene.everybody:
            await scene.read_audit(orchestrator)
        payments, lasted = books.read(ledger), time.monotonic() - began
    run.broken += await doubts_of(ledger)
    cheats = {one["address"] for one in scene.everybody if one["hostile"] != "none"}
    lives = [life for life in scene.lives if life.address not in cheats]
    of_runners = {one["address"] for one in devnet["runners"]}
    wrong = {
        life.address: found
        for life in lives
        if (
            found := books.faults_in(
                life.audit,
                books.handed_out_again(payments, life.address),
                debt=DEBIT * PRICE if life.address in of_runners else 0,
            )
        )
    }
    run.broken += [f"the audit of {address}: {found}" for address, found in wrong.items()]
    showed = books.who_showed_pictures(ledger)
    honest = {one["address"].lower() for one in scene.everybody} - {one.lower() for one in cheats}
    stolen = float(books.stolen(payments, showed | honest) / PRICE)
    thieves = sum(address.lower() not in showed for address in cheats)
    most = books.most_stolen(thieves, lasted, start=EMPTY_START)
    if stolen > most:
        run.broken.append(f"{stolen:.0f} s of stream were stolen in {lasted:.0f} s, more than {most:.0f} s")
    wei = books.unexplained(payments, lives)
    if wei:
        run.broken.append(f"{wei} wei are unexplained")
    if grown > MEMORY_GROWTH:
        run.broken.append(f"memory grew by {grown} bytes")
    cuts = statistics.quantiles(run.gaps, n=100, method="inclusive") if len(run.gaps) > 1 else [0.0] * 99
    return {
        "minutes": minutes,
        "seed": seed,
        "streams": STREAMS,
        "candidates": {"jobs": len(devnet["orchestrators"]), f"runners ({dialect})": runners},
        "faults": run.faults.total(),
        "faults_by_name": dict(run.faults),
        "streams_lost": len(run.lost),
        "gap_p50_s": round(cuts[49], 2),
        "gap_p99_s": round(cuts[98], 2),
        "gap_max_s": round(max(run.gaps, default=0), 2),
        "gap_max_after_kill_s": round(max(run.gaps_of_kills, default=0), 2),
        "gap_max_after_kill_with_standby_s": round(max(run.gaps_with_standby, default=0), 2),
        "payments": len(payments),
        "wei_unexplained": wei,
        "stolen_s": round(stolen, 1),
        "stolen_s_per_hour": round(stolen / lasted * 3600, 1),
        "audits_read": len(scene.lives),
        "audits_checked": len(lives),
        "memory_start_mib": round(memory / 2**20, 1),
        "memory_end_mib": round((memory + grown) / 2**20, 1),
        "broken": run.broken,
    }


async def doubts_of(ledger: Path) -> list[str]:
    """What `ledger verify` finds wrong at the end."""
    try:
        await verify(ledger)
    except AssertionError as error:
        return [f"ledger verify: {error}"]
    still_open = left_open(ledger)
    return [f"the ledger has {still_open} open sessions"] if still_open else []


async def left_behind(gateway: GatewayProcess, before: dict[str, Any]) -> list[str]:
    """What ended streams left behind."""
    gone = ("streams", "viewers", "peers", "trickle", "sessions", "held_bytes")
    after: dict[str, Any] = {}

    async def all_gone() -> bool:
        after.update(await gateway.get("debug/state"))
        return not any(after[name] for name in gone) and after["tasks_total"] <= before["tasks_total"]

    try:
        await eventually(all_gone, deadline=60, every=0.5)
    except AssertionError:
        return [f"left behind: { {name: after[name] for name in gone} }, tasks {after['tasks']}"]
    async with gateway.http.get(gateway.url + "metrics") as response:
        failed = [line for line in (await response.text()).splitlines() if "task_failures_total{" in line]
    if failed:
        why = [line for line in gateway.log.read_text().splitlines() if "task failed" in line]
        failed.append(" | ".join(why))
    return [f"tasks failed: {line}" for line in failed]


def keep_log(folder: Path, seed: int) -> str:
    """Copy the gateway's log to where it outlives the run's folder; gives the path."""
    kept = Path(tempfile.gettempdir()) / f"chaos-seed{seed}.log"
    kept.write_bytes(b"".join(log.read_bytes() for log in folder.glob("gateway-*.log")))
    return str(kept)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("-minutes", type=float, default=3.0)
    parser.add_argument("-seed", type=int, default=1)
    parser.add_argument(
        *("-runners", "--runners"),
        type=int,
        default=CANDIDATES // 2,
        choices=range(CANDIDATES),
        help=f"how many of the {CANDIDATES} candidates are live runners",
    )
    parser.add_argument(
        *("-nodes", "--nodes"),
        type=int,
        default=1,
        choices=range(1, 6),
        help="from 2: nodes of a cluster, with NATS and PostgreSQL, which are killed and halted, too",
    )
    given = parser.parse_args()
    if given.nodes > 1:
        run = partial(nodes_chaos, nodes=given.nodes)
    else:
        run = partial(chaos, runners=given.runners)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        summary: dict[str, Any] = {"broken": ["the run itself"]}
        try:
            summary = asyncio.run(run(given.minutes, given.seed, Path(folder)))
        finally:
            if summary["broken"]:
                summary["log"] = keep_log(Path(folder), given.seed)
    print(json.dumps(summary), flush=True)
    return 1 if summary["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
