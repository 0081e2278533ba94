"""What can go wrong with a cluster on this machine: each fault is made good at its end."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from benchmarks.chaos.books import Life
from benchmarks.chaos.chaos_node import ChaosNode
from benchmarks.chaos.faults import process_at
from benchmarks.chaos.roaming_stream import RoamingStream
from harness.nats import NatsServer
from harness.postgresql import PostgresqlServer


@dataclass
class NodesScene:
    """What faults act on. `lives` are what orchestrators' processes were credited, read before each kill."""

    nodes: Sequence[ChaosNode]
    streams: Sequence[RoamingStream]
    devnet: dict[str, Any]
    nats: NatsServer
    postgresql: PostgresqlServer
    http: aiohttp.ClientSession
    random: random.Random
    lives: list[Life] = field(default_factory=list)
    deck: list[NodeFault] = field(default_factory=list)
    _began: dict[str, int] = field(default_factory=dict)

    async def read_audit(self, orchestrator: dict[str, Any]) -> None:
        """Keep what a process says it was credited since it was started."""
        address, asked = orchestrator["address"], time.time_ns()
        async with self.http.get(orchestrator["audit_url"], ssl=False) as answer:
            audit = await answer.json()
        self.lives.append(Life(address, self._began.get(address, 0), asked, time.time_ns(), audit))

    def killed(self, orchestrator: dict[str, Any]) -> None:
        """The process is gone, and its books with it."""
        self._began[orchestrator["address"]] = time.time_ns()

    def node(self) -> ChaosNode:
        """A node, mostly one that has a stream."""
        owners = {stream.owner for stream in self.streams}
        owning = [node for node in self.nodes if node.name in owners]
        return self.random.choice(owning if owning and self.random.random() < 0.8 else self.nodes)


@dataclass(frozen=True)
class NodeFault:
    """`hold` is how long it lasts, in seconds from and to."""

    name: str
    weight: int
    hold: tuple[float, float]
    begin: Callable[[NodesScene], AbstractAsyncContextManager[str]]


@asynccontextmanager
async def end_node(scene: NodesScene, *signals: signal.Signals) -> AsyncIterator[str]:
    node = scene.node()
    had = sum(stream.owner == node.name for stream in scene.streams)
    await node.end(*signals)
    try:
        yield f"{node.name}, with {had} streams"
    finally:
        await node.start()


@asynccontextmanager
async def halt_node(scene: NodesScene) -> AsyncIterator[str]:
    node = scene.node()
    had = sum(stream.owner == node.name for stream in scene.streams)
    node.halt()
    try:
        yield f"{node.name}, with {had} streams"
    finally:
        node.go_on()


@asynccontextmanager
async def kill_nats(scene: NodesScene) -> AsyncIterator[str]:
    await asyncio.to_thread(scene.nats.kill)
    try:
        yield "and started again"
    finally:
        await asyncio.to_thread(scene.nats.start)


@asynccontextmanager
async def halt_nats(scene: NodesScene) -> AsyncIterator[str]:
    scene.nats.pause()
    try:
        yield "and it goes on"
    finally:
        scene.nats.go_on()


@asynccontextmanager
async def crash_postgresql(scene: NodesScene) -> AsyncIterator[str]:
    """Its processes end as they are: the next start recovers."""
    await asyncio.to_thread(scene.postgresql.stop)
    try:
        yield "and started again"
    finally:
        await asyncio.to_thread(scene.postgresql.start)


@asynccontextmanager
async def kill_orchestrator(scene: NodesScene) -> AsyncIterator[str]:
    victim = scene.random.choice(scene.devnet["orchestrators"])
    pid = await process_at(victim["url"])
    await scene.read_audit(victim)
    os.kill(pid, signal.SIGKILL)
    scene.killed(victim)
    yield victim["url"]


@asynccontextmanager
async def kill_runner(scene: NodesScene) -> AsyncIterator[str]:
    pid = await process_at(scene.devnet["runner"])
    os.kill(pid, signal.SIGKILL)
    yield f"pid {pid}"


NODE_FAULTS = (
    NodeFault("kill -9 node", 4, (0.5, 2.0), lambda scene: end_node(scene, signal.SIGKILL)),
    NodeFault("halt node", 3, (0.5, 7.0), halt_node),
    NodeFault("stop node", 1, (0.5, 2.0), lambda scene: end_node(scene, signal.SIGTERM, signal.SIGTERM)),
    NodeFault("kill -9 nats-server", 2, (0.5, 3.0), kill_nats),
    NodeFault("halt nats-server", 1, (1.0, 6.0), halt_nats),
    NodeFault("crash PostgreSQL", 2, (0.5, 3.0), crash_postgresql),
    NodeFault("kill -9 orchestrator", 2, (0.5, 1.5), kill_orchestrator),
    NodeFault("kill -9 runner", 1, (0.5, 1.0), kill_runner),
)


def drawn(scene: NodesScene) -> NodeFault:
    """The next fault: all, each as often as its weight, in random order before any comes again."""
    if not scene.deck:
        weights = [fault.weight for fault in NODE_FAULTS]
        scene.deck = scene.random.sample(NODE_FAULTS, sum(weights), counts=weights)
    return scene.deck.pop()
