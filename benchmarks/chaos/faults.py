"""Faults of a live devnet: each is a context manager that begins it and repairs it."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

import psutil

from benchmarks.chaos.books import Life
from benchmarks.chaos.discovery import LIES, Discovery
from benchmarks.chaos.streams import ChaosStream
from harness.gateway import GatewayProcess
from harness.waiting import eventually


@dataclass
class Scene:
    """What faults act on. `lives` are what orchestrators' processes were credited, read before each kill."""

    gateway: GatewayProcess
    devnet: dict[str, Any]
    """Its description when it was started: addresses stay, process ids change."""
    streams: Sequence[ChaosStream]
    discovery: Discovery
    random: random.Random
    lives: list[Life] = field(default_factory=list)
    deck: list[Fault] = field(default_factory=list)
    _began: dict[str, int] = field(default_factory=dict)

    @property
    def everybody(self) -> list[dict[str, Any]]:
        """Orchestrators of jobs and of live runners."""
        return [*self.devnet["orchestrators"], *self.devnet["runners"]]

    async def read_audit(self, orchestrator: dict[str, Any]) -> None:
        """Keep what a process says it was credited since it was started."""
        address, asked = orchestrator["address"], time.time_ns()
        audit = await self.gateway.fetch(orchestrator["audit_url"])
        self.lives.append(Life(address, self._began.get(address, 0), asked, time.time_ns(), audit))

    def killed(self, orchestrator: dict[str, Any]) -> None:
        """The process is gone, and its books with it: what comes is another one's."""
        self._began[orchestrator["address"]] = time.time_ns()


@dataclass(frozen=True)
class Fault:
    """`hold` is how long it lasts, in seconds from and to."""

    name: str
    weight: int
    hold: tuple[float, float]
    begin: Callable[[Scene], AbstractAsyncContextManager[str]]


async def _orchestrator(scene: Scene) -> dict[str, Any]:
    """An orchestrator, mostly one that has a stream's job."""
    everybody = scene.everybody
    used_url = await scene.random.choice(scene.streams).orchestrator()
    used = [one for one in everybody if is_at(used_url, one["url"])]
    return dict(used[0] if used and scene.random.random() < 0.8 else scene.random.choice(everybody))


def is_at(url: str, orchestrator: str) -> bool:
    """Whether a job's URL is an orchestrator's, or that of one of its live runners."""
    return f"{url}/".startswith(f"{orchestrator}/")


async def process_at(url: str) -> int:
    """The id of the process that listens there now."""
    port = urlsplit(url).port

    def listener() -> int | None:
        listening = (c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
        return next((connection.pid for connection in listening if connection.laddr.port == port), None)

    return int(await eventually(lambda: asyncio.to_thread(listener), what=f"a process at {url}"))


@asynccontextmanager
async def kill_orchestrator(scene: Scene) -> AsyncIterator[str]:
    victim = await _orchestrator(scene)
    pid = await process_at(victim["url"])
    await scene.read_audit(victim)
    os.kill(pid, signal.SIGKILL)
    scene.killed(victim)
    yield victim["url"]


@asynccontextmanager
async def _hanging(pid: int) -> AsyncIterator[str]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield f"pid {pid}"
    finally:
        os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def hang_orchestrator(scene: Scene) -> AsyncIterator[str]:
    victim = await _orchestrator(scene)
    async with _hanging(await process_at(victim["url"])):
        yield victim["url"]


@asynccontextmanager
async def kill_part(scene: Scene, part: str) -> AsyncIterator[str]:
    pid = await process_at(scene.devnet[part])
    os.kill(pid, signal.SIGKILL)
    yield f"pid {pid}"


@asynccontextmanager
async def hang_part(scene: Scene, part: str) -> AsyncIterator[str]:
    async with _hanging(await process_at(scene.devnet[part])) as who:
        yield who


@asynccontextmanager
async def fill_disk(scene: Scene) -> AsyncIterator[str]:
    """No file of the gateway's can take another byte."""
    before = resource.prlimit(scene.gateway.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        yield "the gateway's files"
    finally:
        resource.prlimit(scene.gateway.pid, resource.RLIMIT_FSIZE, before)


@asynccontextmanager
async def bad_link(scene: Scene) -> AsyncIterator[str]:
    stream = scene.random.choice(scene.streams)
    stream.link.loss = scene.random.uniform(0.01, 0.05)
    stream.link.delay = scene.random.uniform(0.02, 0.06)
    said = f"{stream.name}: {stream.link.loss:.1%} lost, {stream.link.delay * 1000:.0f} ms"
    try:
        yield said
    finally:
        stream.link.loss = stream.link.delay = 0.0


@asynccontextmanager
async def kill_app(scene: Scene) -> AsyncIterator[str]:
    """The app of a live runner dies, and registers again after its restart."""
    victim = scene.random.choice(scene.devnet["runners"])
    os.kill(await process_at(victim["app_url"]), signal.SIGKILL)
    yield victim["url"]


@asynccontextmanager
async def release_sessions(scene: Scene) -> AsyncIterator[str]:
    """Orchestrators end all sessions on half of the live runners."""
    yield f"{await _release_half(scene)} runners"


async def _release_half(scene: Scene) -> int:
    """End all sessions on half of the live runners; gives how many those are."""
    chosen = _half_of_the_runners(scene)
    for one in chosen:
        await _tell(scene, "POST", f"{one['url']}/devnet/release")
    return len(chosen)


def _half_of_the_runners(scene: Scene) -> list[dict[str, Any]]:
    runners = scene.devnet["runners"]
    return scene.random.sample(runners, max(1, len(runners) // 2))


@asynccontextmanager
async def move_challenge_prices(scene: Scene) -> AsyncIterator[str]:
    """Challenges ask for one wei more than discovery says, which is the ceiling, and sessions end."""
    chosen = _half_of_the_runners(scene)
    listed = {one["url"]: int(one["price_wei_per_second"]) for one in chosen}
    for url, price in listed.items():
        await _tell(
            scene, "PATCH", f"{url}/devnet/tariff", {"price_wei_per_second": price + 1, "listed_wei": price}
        )
        await _tell(scene, "POST", f"{url}/devnet/release")
    try:
        yield f"{len(chosen)} runners"
    finally:
        for url, price in listed.items():
            await _tell(
                scene, "PATCH", f"{url}/devnet/tariff", {"price_wei_per_second": price, "listed_wei": None}
            )


@asynccontextmanager
async def false_inventory(scene: Scene) -> AsyncIterator[str]:
    """What discovery says of live runners is false, and sessions end, so that others are looked for."""
    scene.discovery.liar = random.Random(scene.random.random())
    try:
        yield f"{await _release_half(scene)} runners' sessions released"
    finally:
        scene.discovery.liar = None


async def _tell(scene: Scene, method: str, url: str, body: dict[str, Any] | None = None) -> None:
    async with scene.gateway.http.request(method, url, json=body, ssl=False) as answer:
        assert answer.status == 204, f"{url}: {answer.status}"


@asynccontextmanager
async def false_discovery(scene: Scene) -> AsyncIterator[str]:
    lies = scene.random.sample(LIES, len(LIES))
    scene.discovery.lies = cycle(lies)
    try:
        yield f"{lies[0]} and others"
    finally:
        scene.discovery.lies = None


FAULTS = (
    Fault("kill -9 orchestrator", 6, (0.5, 1.5), kill_orchestrator),
    Fault("hang orchestrator", 3, (3.0, 8.0), hang_orchestrator),
    Fault("kill -9 runner", 2, (0.5, 1.0), lambda scene: kill_part(scene, "runner")),
    Fault("hang runner", 1, (1.0, 3.0), lambda scene: hang_part(scene, "runner")),
    Fault("kill -9 signer", 2, (0.5, 1.0), lambda scene: kill_part(scene, "signer")),
    Fault("hang signer", 2, (3.0, 15.0), lambda scene: hang_part(scene, "signer")),
    Fault("disk full", 2, (3.0, 10.0), fill_disk),
    Fault("slow and lossy link", 2, (3.0, 5.0), bad_link),
    Fault("discovery lies", 1, (3.0, 4.0), false_discovery),
)
RUNNER_FAULTS = (
    Fault("kill -9 app", 3, (0.5, 1.5), kill_app),
    Fault("sessions released", 2, (0.5, 1.5), release_sessions),
    Fault("challenge prices move", 2, (2.0, 5.0), move_challenge_prices),
    Fault("discovery lies about runners", 2, (3.0, 6.0), false_inventory),
)
"""Where there are live runners."""


def drawn(scene: Scene) -> Fault:
    """The next fault: all, each as often as its weight, in random order before any comes again."""
    if not scene.deck:
        faults = (*FAULTS, *RUNNER_FAULTS) if scene.devnet["runners"] else FAULTS
        weights = [fault.weight for fault in faults]
        scene.deck = scene.random.sample(faults, sum(weights), counts=weights)
    return scene.deck.pop()
