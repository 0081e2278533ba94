"""A stream of the chaos run on nodes: publisher and viewer go to another node when theirs is gone."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import aiohttp

from benchmarks.chaos.chaos_node import ChaosNode
from gateway.aio.tasks import cancel, spawn
from harness.waiting import eventually
from harness.webrtc import Refused, WhepViewer, WhipPublisher, encoded_pattern, longest_gap

WIDTH, HEIGHT = 160, 120
START_DEADLINE = 60.0
STEADY = 1.0
"""Seconds in which a stream that works has shown at least this many pictures:"""
STEADY_FRAMES = 10
LOOK = 0.05
AGAIN = 0.2
"""Seconds between two tries of a client."""
OVER = ("closed", "failed")
FAILURES = (Refused, aiohttp.ClientError, TimeoutError, OSError, AssertionError)


class RoamingStream:
    """`async with` publishes and watches; the negative is the effect that must show."""

    def __init__(self, nodes: Sequence[ChaosNode], http: aiohttp.ClientSession, name: str, seed: int) -> None:
        self.name = name
        self.owner = ""
        """The name of the node that served the newest publish."""
        self.publishes = 0
        self.watches = 0
        self.refusals: deque[str] = deque(maxlen=20)
        """Of publishes, the newest ones."""
        self._nodes = nodes
        self._http = http
        self._random = random.Random(seed)
        self._viewers: list[WhepViewer] = []
        self._publisher: WhipPublisher | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._ending: list[asyncio.Task[None]] = []
        self._stops = False
        self._request_id = ""

    async def __aenter__(self) -> RoamingStream:
        self._tasks = [
            spawn(self._publish(), name=f"{self.name} publishes"),
            spawn(self._watch(), name=f"{self.name} watches"),
        ]
        await eventually(self.steady, deadline=START_DEADLINE, what=f"the picture of {self.name}")
        self._request_id = (await self.status())["request_id"]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await cancel(*self._tasks)
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def stop(self) -> None:
        """The publisher says that it does not come back."""
        self._stops = True
        node = next(node for node in self._nodes if node.works)
        assert self._publisher is not None
        url = node.gateway.url.rstrip("/") + self._publisher.location
        async with self._http.delete(url, params={"resume": "false"}) as answer:
            assert answer.status == 200, f"{self.name}: {answer.status} {await answer.text()}"
        await cancel(*self._tasks)

    def steady(self) -> bool:
        """Whether it has shown the effect without a break for the last second."""
        since = time.monotonic() - STEADY
        shown = (moment for viewer in self._viewers[-1:] for moment in viewer.negatives)
        return sum(1 for moment in shown if moment > since) >= STEADY_FRAMES

    def longest_gap(self, since: float) -> float:
        """Seconds, the longest without a picture that shows the effect, since then (monotonic)."""
        moments = sorted(moment for viewer in self._viewers for moment in viewer.negatives)
        before = [moment for moment in moments if moment <= since][-1:]
        return longest_gap([*before, *(moment for moment in moments if moment > since), time.monotonic()])

    async def status(self) -> dict[str, Any]:
        """What a node that works says of it."""
        node = self._random.choice([node for node in self._nodes if node.works])
        return await node.gateway.status(self.name)

    async def lost(self) -> str:
        """Why its publisher did not get its job back; empty where it did."""
        with suppress(*FAILURES):
            status = await self.status()
            if status["request_id"] != self._request_id and status["state"] == "live":
                return f"another job: {status['request_id']} and not {self._request_id}"
        return ""

    async def _publish(self) -> None:
        units = encoded_pattern(WIDTH, HEIGHT)
        while not self._stops:
            node, run = await self._choose("")
            publisher = WhipPublisher(
                self._http, node.gateway.live(f"{self.name}/whip"), units=units, patient=False
            )
            try:
                await publisher.__aenter__()
            except FAILURES as error:
                self.refusals.append(f"{node.name}: {error!r}"[:200])
                await asyncio.sleep(AGAIN)
                continue
            self._publisher = publisher
            self.publishes += 1
            self.owner = publisher.headers.get("Livepeer-Node", node.name)
            server = next(one for one in self._nodes if one.name == self.owner)
            run = server.run
            try:
                await _until_over(publisher, server, run)
            finally:
                self._end(publisher)

    async def _watch(self) -> None:
        while True:
            node, run = await self._choose(self.owner)
            viewer = WhepViewer(self._http, node.gateway.live(f"{self.name}/whep"))
            try:
                await viewer.__aenter__()
            except FAILURES:
                await asyncio.sleep(AGAIN)
                continue
            self.watches += 1
            self._viewers.append(viewer)
            try:
                await _until_over(viewer, node, run)
            finally:
                self._end(viewer)

    def _end(self, client: WhipPublisher | WhepViewer) -> None:
        """Close it without waiting: its node may be gone."""
        end = client.__aexit__(None, None, None)
        self._ending.append(spawn(end, name=f"{self.name}: a client's end", expected=FAILURES))

    async def _choose(self, avoided: str) -> tuple[ChaosNode, int]:
        """A node that works and its run, if possible another one than `avoided`."""
        working: list[ChaosNode] = []
        while not working:
            working = [node for node in self._nodes if node.works]
            await asyncio.sleep(0 if working else LOOK)
        others = [node for node in working if node.name != avoided]
        node = self._random.choice(others or working)
        return node, node.run


async def _until_over(client: WhipPublisher | WhepViewer, node: ChaosNode, run: int) -> None:
    """Until its connection is, or that run of its node has gone."""
    while node.serves(run) and client.peer.connectionState not in OVER:  # noqa: ASYNC110 (many signs)
        await asyncio.sleep(LOOK)
