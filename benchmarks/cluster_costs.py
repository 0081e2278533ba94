"""What one operation between nodes costs: CPU of the nodes and of nats-server, and the time that it takes.

CPU is what the scheduler counted, so that it tells something on a machine that others use, too.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import psutil

from gateway.aio.tasks import spawn
from gateway.cluster.beats import from_json, to_json
from gateway.cluster.bucket import Bucket
from gateway.cluster.bus import Bus, BusMessage
from gateway.cluster.counts import ClusterCounts
from gateway.cluster.ownership import value_of
from gateway.cluster.presence import Identity, NodeState, NodeView
from gateway.cluster.subjects import Subjects
from gateway.cluster.wire import decode, decode_frame, messages_of
from gateway.media.frames import AccessUnit
from harness.nats import NatsServer

ME = Identity("node-1.example.org:9935", "0123456789abcdef")
STATE = NodeState(ME, "0.1.0", "http://10.0.0.1:9935/", 60, 60, 0.001, open=True, draining=False)
PICTURE = AccessUnit([bytes(11_000)], 0, 0, key=False)
"""One of a stream of 2.65 Mbit/s and 30 pictures a second."""

NODES = 100
"""Nodes that hear a beat: more of it is what each delivery costs."""

Operation = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class Measured:
    """One operation, on average; `bytes` are those of its largest message."""

    name: str
    bytes: int
    node_us: float
    """CPU of all nodes that take part."""
    nats_us: float
    ms_p50: float
    ms_p99: float

    def row(self) -> dict[str, Any]:
        return {
            "figure": f"one operation: {self.name}",
            "bytes": self.bytes,
            "node_cpu_us": round(self.node_us),
            "nats_cpu_us": round(self.nats_us),
            "ms_p50": round(self.ms_p50, 2),
            "ms_p99": round(self.ms_p99, 2),
        }


async def costs(nats: NatsServer, times: int) -> AsyncIterator[dict[str, Any]]:
    """Each operation so many times, one after the other."""
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(Bus([nats.url], Subjects("costs"), name=name)) for name in "ab"
        ]
        server = psutil.Process(nats.pid)
        keys = Bucket(one, "costs-names")
        counts = ClusterCounts(one, Bucket(one, "costs-counts"), NodeView(ME), ME)
        stack.push_async_callback(counts.close)

        async def beat(number: int) -> None:
            await keys.put("beat", to_json(STATE))

        async def claim(number: int) -> None:
            await keys.get("name")
            revision = await keys.create("name", value_of(ME))
            subscription = await one.subscribe(one.subjects.stream("name"), lambda message: None)
            await one.flush()
            await subscription.close()
            await keys.remove(revision)

        async def place(number: int) -> None:
            await counts.hold(("maxStreams of this token", "t"), 1, 10)
            counts.lower(("maxStreams of this token", "t"), 0)
            await counts.settle()

        def answer(message: BusMessage) -> None:
            spawn(other.answer(message.reply, message.data), name="bench answer")

        await other.subscribe(other.subjects.stream("asked"), answer)
        await other.flush()

        async def ask(number: int) -> None:
            await one.ask(one.subjects.stream("asked"), bytes(4000))

        came = asyncio.Event()

        def take(message: BusMessage) -> None:
            decode_frame(decode(message.data).body)
            came.set()

        await other.subscribe(other.subjects.frames("watched"), take)
        await other.flush()

        async def picture(number: int) -> None:
            came.clear()
            for message in messages_of(PICTURE, 1, number):
                await one.publish(one.subjects.frames("watched"), message)
            await came.wait()

        view, heard, all_heard = NodeView(ME), 0, asyncio.Event()

        def hear(message: BusMessage) -> None:
            nonlocal heard
            state = from_json(message.data)
            assert state is not None
            view.heard(state, 0.0)
            heard += 1
            if heard % NODES == 0:
                all_heard.set()

        async def beat_to_many(number: int) -> None:
            all_heard.clear()
            await beat(number)
            await all_heard.wait()

        for name, size, operation in (
            ("a beat is written", len(to_json(STATE)), beat),
            ("a name is taken and given back", len(value_of(ME)), claim),
            ("a place under a token's limit is taken and given back", 120, place),
            ("a request to another node and its answer", 4000, ask),
            ("a picture is sent to another node", 11_000, picture),
            (f"a beat is written and heard by {NODES} nodes", len(to_json(STATE)), beat_to_many),
        ):
            if operation is beat_to_many:
                for _ in range(NODES):
                    await other.subscribe(f"{keys.subject}beat", hear)
                await other.flush()
            yield (await _measure(name, size, operation, server, times)).row()


async def _measure(
    name: str, size: int, operation: Operation, server: psutil.Process, times: int
) -> Measured:
    await operation(0)
    took: list[float] = []
    node, nats = time.process_time(), sum(server.cpu_times()[:2])
    for number in range(1, times + 1):
        begun = time.perf_counter()
        await operation(number)
        took.append(1000 * (time.perf_counter() - begun))
    node, nats = time.process_time() - node, sum(server.cpu_times()[:2]) - nats
    p99 = statistics.quantiles(took, n=100)[-1]
    return Measured(name, size, 1e6 * node / times, 1e6 * nats / times, statistics.median(took), p99)
