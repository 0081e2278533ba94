"""Nodes of a cluster: streams that one and two hold, viewers and publishers at any of them, a node that dies.

Everything runs on this machine: nodes, load, NATS, PostgreSQL and the devnet, which hands streams
on undecoded.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from benchmarks.cluster_costs import costs
from benchmarks.media import LIFTED, Load, LoadEnded, limit_of
from benchmarks.media import Plan as MediaPlan
from benchmarks.relays import FlashTrack, flashes
from harness.devnet import devnet_process, network_flags
from harness.gateway import GatewayProcess, gateway_process
from harness.nats import nats_server
from harness.postgresql import postgresql_server
from harness.waiting import eventually
from harness.webrtc import FPS, WhepViewer, WhipPublisher

POLL = 0.002


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    streams: tuple[int, ...] = (4, 8, 16, 24, 32)
    """Publishers with one viewer each, on one node and on two."""
    seconds: float = 5.0
    watched: float = 20.0
    """Seconds for which two viewers of one stream are compared."""
    joins: int = 8
    publishes: int = 12
    deaths: int = 3
    operations: int = 2000
    """How often each operation between nodes is timed."""


FULL = Plan()
SHORT = Plan(streams=(1,), seconds=0.6, watched=3.0, joins=1, publishes=3, deaths=1, operations=50)


@dataclass
class Engines:
    """What nodes are started on."""

    nats: str
    ledger: str
    devnet: dict[str, Any]
    folder: Path

    @asynccontextmanager
    async def nodes(self, *names: str) -> AsyncIterator[list[GatewayProcess]]:
        """Nodes that all know each other."""
        async with AsyncExitStack() as stack:
            made = [await stack.enter_async_context(self._node(name)) for name in names]

            async def known() -> bool:
                told = [(await node.get("nodes"))["nodes"] for node in made]
                return all(sum(one["takes_publishers"] for one in nodes) == len(names) for nodes in told)

            await eventually(known, what="the nodes to know each other")
            yield made

    @asynccontextmanager
    async def _node(self, name: str) -> AsyncIterator[GatewayProcess]:
        flags = (
            *network_flags(self.devnet),
            *("-cluster", self.nats, "-nodeName", name, "-ledger", self.ledger),
            *("-dataDir", str(self.folder / name), "-resumeTimeout", "60s", "-v", "1", *LIFTED),
        )
        async with gateway_process(self.folder, *flags, devnet=False) as gateway:
            yield gateway

    async def first_payments(self, http: aiohttp.ClientSession) -> int:
        """How many sessions the signer has opened so far: each is a preload."""
        async with http.get(self.devnet["signer_audit_url"]) as response:
            return int((await response.json())["null_states"])


async def measure(folder: Path, plan: Plan = FULL) -> AsyncIterator[dict[str, Any]]:
    with nats_server() as nats, postgresql_server() as postgresql:
        async with AsyncExitStack() as stack:
            devnet = await stack.enter_async_context(
                devnet_process(folder, "-effect", "none", "-capacity", "1000")
            )
            http = await stack.enter_async_context(aiohttp.ClientSession())
            async for row in costs(nats, plan.operations):
                yield row
            engines = Engines(nats.url, postgresql.database(), devnet, folder)
            for names in (("a",), ("a", "b")):
                async for row in streams_held(engines, names, plan):
                    yield row
            units = await asyncio.to_thread(flashes, (320, 180))
            async with engines.nodes("a", "b", "c") as nodes:
                yield await published(nodes, http, units, plan)
                async for row in watched(nodes, http, units, plan):
                    yield row
            yield await killed(engines, http, units, plan)


async def streams_held(engines: Engines, names: Sequence[str], plan: Plan) -> AsyncIterator[dict[str, Any]]:
    """Publishers with one viewer each, more and more until frames are lost; half of them asks each node."""
    short = MediaPlan(height=180 if plan is SHORT else 720, seconds=plan.seconds, warm_up=1.0)
    for count in plan.streams:
        shares = [count // len(names) + (index < count % len(names)) for index in range(len(names))]
        row: dict[str, Any] = {"figure": "streams with a viewer each", "nodes": len(names), "streams": count}
        try:
            async with engines.nodes(*names) as nodes, AsyncExitStack() as stack:
                loads = [
                    await stack.enter_async_context(
                        Load.running("both", node.live(f"{name}{{n}}/{{way}}"), share, short)
                    )
                    for name, node, share in zip(names, nodes, shares, strict=True)
                    if share
                ]
                processes = [psutil.Process(node.pid) for node in nodes]
                windows = await asyncio.gather(
                    *(load.window(process, short) for load, process in zip(loads, processes, strict=False))
                )
        except LoadEnded:
            yield {**row, "limit": "not all of them were taken"}
            return
        limits = [limit for limit in (limit_of(window) for window in windows) if limit]
        cpu = sum(window["measured_cpu"] / window["at"] for window in windows)
        row |= {
            "core_percent_per_stream": round(100 * cpu / count, 2),
            "frames_sent": sum(window["frames_sent"] for window in windows),
            "frames_received": sum(window["frames_received"] for window in windows),
            "machine_percent": round(max(window["machine_percent"] for window in windows)),
        }
        yield {**row, "limit": limits[0]} if limits else row
        if limits:
            return


async def published(
    nodes: Sequence[GatewayProcess], http: aiohttp.ClientSession, units: list[bytes], plan: Plan
) -> dict[str, Any]:
    """Seconds to 201 through each node, whichever takes the stream."""
    took: list[list[float]] = [[] for _ in nodes]
    for number in range(plan.publishes):
        index = number % len(nodes)
        publisher = WhipPublisher(http, nodes[index].live(f"published{number}/whip"), units=units)
        offered = await _gathered(publisher)
        posted = time.monotonic()
        async with http.post(
            nodes[index].live(f"published{number}/whip"),
            data=offered,
            headers={"Content-Type": "application/sdp"},
        ) as response:
            assert response.status == 201, await response.text()
            took[index].append(time.monotonic() - posted)
            location = response.headers["Location"]
        await publisher.peer.close()
        async with http.delete(nodes[index].url.rstrip("/") + location, params={"resume": "false"}) as gone:
            assert gone.status == 200
    return {
        "figure": "milliseconds to the 201 of a publish, through each node",
        "publishes": plan.publishes,
        "medians": [_ms(statistics.median(one)) for one in took],
        "max": _ms(max(max(one) for one in took)),
    }


async def _gathered(publisher: WhipPublisher) -> str:
    await publisher.peer.setLocalDescription(await publisher.peer.createOffer())
    return str(publisher.peer.localDescription.sdp)


async def watched(
    nodes: Sequence[GatewayProcess], http: aiohttp.ClientSession, units: list[bytes], plan: Plan
) -> AsyncIterator[dict[str, Any]]:
    """The same pictures at a viewer of the owner and at one of another node."""
    publisher = WhipPublisher(http, nodes[0].live("watched/whip"), units=units)
    publisher.peer.getSenders()[0].replaceTrack(FlashTrack(units))
    async with publisher:
        owner, other, *_ = await _owner_first(nodes, "watched")
        firsts: dict[str, list[float]] = {"owner": [], "other": []}
        for _ in range(plan.joins):
            for name, node in (("owner", owner), ("other", other)):
                posted = time.monotonic()
                async with WhepViewer(http, node.live("watched/whep")) as viewer:
                    await eventually(lambda viewer=viewer: viewer.frames > 0, every=POLL)  # type: ignore[misc]
                    firsts[name].append(viewer.times[0] - posted)
        medians = {name: statistics.median(times) for name, times in firsts.items()}
        yield {
            "figure": "milliseconds from a viewer's request to its first picture",
            "joins": plan.joins,
            **{name: _ms(median) for name, median in medians.items()},
            "added": _ms(medians["other"] - medians["owner"]),
        }
        async with (
            WhepViewer(http, owner.live("watched/whep")) as at_owner,
            WhepViewer(http, other.live("watched/whep")) as at_other,
        ):
            await eventually(lambda: min(at_owner.frames, at_other.frames) > 2 * FPS)
            await asyncio.sleep(plan.watched)
        added = sorted(_added(at_owner, at_other))
        yield {
            "figure": "milliseconds that a picture is later at a viewer of another node than at the owner's",
            "pictures": len(added),
            "p50": _ms(statistics.median(added)),
            "p99": _ms(statistics.quantiles(added, n=100)[-1]),
        }


async def _owner_first(nodes: Sequence[GatewayProcess], name: str) -> list[GatewayProcess]:
    """The node that has the stream, then another one."""

    async def owner() -> str:
        streams = (await nodes[0].get("nodes/streams"))["streams"]
        return str(next((one["node"] for one in streams if one["name"] == name), ""))

    chosen = await eventually(owner, what="the stream's owner")
    names = [one["name"] for one in (await nodes[0].get("nodes"))["nodes"]]
    ordered = sorted(zip(names, nodes, strict=True), key=lambda pair: pair[0] != chosen)
    return [node for _, node in ordered]


def _added(one: WhepViewer, other: WhepViewer) -> list[float]:
    """Seconds by which each picture came later at the other one, by the pictures' times in the stream.

    Each viewer's times have an origin of their own: it is found by the flash that both saw first.
    """
    began, ended = max(one.times[0], other.times[0]), min(one.times[-1], other.times[-1])
    first, second = _flash(one, began), _flash(other, began)
    origin = other.pts[second] - one.pts[first]
    came = dict(zip(other.pts, other.times, strict=True))
    pairs = ((at, came.get(pts + origin)) for pts, at in zip(one.pts, one.times, strict=True))
    return [later - at for at, later in pairs if later is not None and began <= at <= ended]


def _flash(viewer: WhepViewer, since: float) -> int:
    """The index of the first picture of a bright half that has changed its side, some time after `since`."""
    bright = set(viewer.negatives)
    sides = [at in bright for at in viewer.times]
    settled = since + 0.5
    return next(
        index
        for index in range(1, len(sides))
        if viewer.times[index] > settled and sides[index] and not sides[index - 1]
    )


async def killed(
    engines: Engines, http: aiohttp.ClientSession, units: list[bytes], plan: Plan
) -> dict[str, Any]:
    """From kill -9 of the owner to the picture of its publisher, which comes back through another node."""
    took: list[float] = []
    paid = 0
    for number in range(plan.deaths):
        name = f"killed{number}"
        async with (
            engines.nodes(*(f"{name}{one}" for one in "ab")) as nodes,
            WhipPublisher(http, nodes[0].live(f"{name}/whip"), units=units),
        ):
            owner, other, *_ = await _owner_first(nodes, name)
            async with WhepViewer(http, other.live(f"{name}/whep")) as viewer:
                await eventually(lambda viewer=viewer: viewer.frames > FPS)  # type: ignore[misc]
                before = await engines.first_payments(http)
                os.kill(owner.pid, signal.SIGKILL)
                died = time.monotonic()
                async with WhipPublisher(http, other.live(f"{name}/whip"), units=units):
                    taken = time.monotonic()  # what came until now was sent by the one that was killed
                    await eventually(
                        lambda viewer=viewer, taken=taken: viewer.times[-1] > taken,  # type: ignore[misc]
                        every=POLL,
                    )
                    took.append(next(at for at in viewer.times if at > taken) - died)
                    paid += await engines.first_payments(http) - before
    return {
        "figure": "seconds from kill -9 of the owner to its publisher's picture at a viewer of another node",
        "deaths": plan.deaths,
        "median": round(statistics.median(took), 2),
        "max": round(max(took), 2),
        "preloads_paid": paid,
        "aim": 1.5,
    }


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)
