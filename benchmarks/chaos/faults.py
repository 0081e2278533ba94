"""What is done to a live devnet: each fault is a context that begins it and makes it good again."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from benchmarks.chaos.books import Life
from benchmarks.chaos.streams import ChaosStream
from tests.clients.gateway import GatewayProcess


@dataclass
class Scene:
    """What faults act on. `lives` are what orchestrators' processes were credited, read before each kill."""

    gateway: GatewayProcess
    streams: Sequence[ChaosStream]
    discovery: Discovery
    random: random.Random
    lives: list[Life] = field(default_factory=list)
    _began: dict[str, int] = field(default_factory=dict)

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


class Discovery:
    """A webhook that lists nobody, somebody who is not there, or nonsense."""

    def __init__(self) -> None:
        self.body = "[]"
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Discovery:
        app = web.Application()
        app.router.add_get("/", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, _: web.Request) -> web.Response:
        return web.Response(text=self.body, content_type="application/json")


async def _orchestrator(scene: Scene) -> dict[str, Any]:
    """One that works for a stream, most of the time."""
    devnet = await scene.gateway.devnet()
    used_url = await scene.random.choice(scene.streams).orchestrator()
    used = [o for o in devnet["orchestrators"] if o["url"] == used_url]
    return dict(
        used[0] if used and scene.random.random() < 0.8 else scene.random.choice(devnet["orchestrators"])
    )


@asynccontextmanager
async def kill_orchestrator(scene: Scene) -> AsyncIterator[str]:
    victim = await _orchestrator(scene)
    await scene.read_audit(victim)
    os.kill(victim["pid"], signal.SIGKILL)
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
    async with _hanging(victim["pid"]):
        yield victim["url"]


@asynccontextmanager
async def kill_part(scene: Scene, part: str) -> AsyncIterator[str]:
    pid = (await scene.gateway.devnet())[f"{part}_pid"]
    os.kill(pid, signal.SIGKILL)
    yield f"pid {pid}"


@asynccontextmanager
async def hang_part(scene: Scene, part: str) -> AsyncIterator[str]:
    async with _hanging((await scene.gateway.devnet())[f"{part}_pid"]) as who:
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
async def false_discovery(scene: Scene) -> AsyncIterator[str]:
    lies = ('[{"address": "127.0.0.1:9"}]', "nonsense", '[{"address": 7}, {}]', "[]", '{"address": "x"}')
    scene.discovery.body = scene.random.choice(lies)
    try:
        yield scene.discovery.body
    finally:
        scene.discovery.body = "[]"


FAULTS = (
    Fault("kill -9 orchestrator", 6, (0.5, 1.5), kill_orchestrator),
    Fault("hang orchestrator", 3, (3.0, 8.0), hang_orchestrator),
    Fault("kill -9 runner", 2, (0.5, 1.0), lambda scene: kill_part(scene, "runner")),
    Fault("hang runner", 1, (1.0, 3.0), lambda scene: hang_part(scene, "runner")),
    Fault("kill -9 signer", 2, (0.5, 1.0), lambda scene: kill_part(scene, "signer")),
    Fault("hang signer", 2, (3.0, 15.0), lambda scene: hang_part(scene, "signer")),
    Fault("disk full", 2, (3.0, 10.0), fill_disk),
    Fault("slow and lossy link", 2, (3.0, 5.0), bad_link),
    Fault("discovery lies", 1, (1.0, 2.0), false_discovery),
)


def drawn(scene: Scene) -> Fault:
    return scene.random.choices(FAULTS, [fault.weight for fault in FAULTS])[0]
