"""A stream of the chaos run: a publisher over a link that can turn bad, and a viewer that records gaps."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from itertools import pairwise
from types import TracebackType
from typing import Any

import aiohttp

from harness.gateway import GatewayProcess
from harness.link import Link
from harness.waiting import eventually
from harness.webrtc import WhepViewer, WhipPublisher, encoded_pattern, longest_gap

WIDTH, HEIGHT = 160, 120
START_DEADLINE = 60
"""Seconds until its first picture: those who take pay and show nothing are found out one after the other."""
STEADY = 1.0
"""Seconds in which a stream that works has shown at least this many pictures:"""
STEADY_FRAMES = 10


class ChaosStream:
    """`async with` publishes and watches; the negative is the effect that must show."""

    def __init__(
        self,
        gateway: GatewayProcess,
        http: aiohttp.ClientSession,
        name: str,
        seed: int,
        *,
        standby: bool = False,
    ) -> None:
        self.name = name
        self.standby = standby
        self.link = Link(seed)
        self._gateway = gateway
        self._viewer = WhepViewer(http, gateway.live(f"{name}/whep"))
        self._publisher = WhipPublisher(
            http,
            gateway.live(f"{name}/whip?standby={str(standby).lower()}"),
            units=encoded_pattern(WIDTH, HEIGHT),
            link=self.link,
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> ChaosStream:
        await self._stack.enter_async_context(self._viewer)
        await self._stack.enter_async_context(self._publisher)
        await eventually(self.steady, deadline=START_DEADLINE, what=f"the picture of {self.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def steady(self) -> bool:
        """Whether it has shown the effect without a break for the last second."""
        since = time.monotonic() - STEADY
        return sum(1 for moment in self._viewer.negatives if moment > since) >= STEADY_FRAMES

    def longest_gap(self, since: float) -> float:
        """Seconds, the longest without a picture that shows the effect, since then (monotonic)."""
        before = [moment for moment in self._viewer.negatives if moment <= since][-1:]
        moments = [*before, *(m for m in self._viewer.negatives if m > since), time.monotonic()]
        return longest_gap(moments)

    def times_rise(self) -> bool:
        """Whether every picture's time is above the one before."""
        return all(later > earlier for earlier, later in pairwise(self._viewer.pts))

    async def orchestrator(self) -> str:
        """The URL of the orchestrator that it has now, or had last; empty where nobody knows any more."""
        async with self._gateway.http.get(self._gateway.live(f"{self.name}/status")) as response:
            found = (await response.json()).get("gateway_status", {}).get("orchestrator")
            return found["url"] if found else ""

    async def swaps(self) -> int:
        return int((await self._gateway.status(self.name))["swaps"])

    async def lost(self) -> str:
        """Why it, or a client's connection, ended; empty while all live."""
        ended = (await self._gateway.status(self.name))["ended"]
        if ended is not None:
            return f"{ended['reason']}: {ended['detail']}"
        clients = {"publisher": self._publisher.peer, "viewer": self._viewer.peer}
        closed = [name for name, peer in clients.items() if peer.connectionState == "closed"]
        return f"the {' and the '.join(closed)} closed the connection" if closed else ""

    async def condition(self) -> dict[str, Any]:
        """What may tell why it shows nothing: the gateway's status of it, and its clients' state."""
        viewer, now = self._viewer, time.monotonic()
        ages = {
            "frame": now - viewer.times[-1] if viewer.times else None,
            "negative": now - viewer.negatives[-1] if viewer.negatives else None,
        }
        return {
            "gateway": await self._gateway.status(self.name),
            "viewer": {"connection": viewer.peer.connectionState, "halves": viewer.halves, "ages": ages},
            "publisher": {
                "connection": self._publisher.peer.connectionState,
                "sent": self._publisher.track.sent,
            },
        }

    async def stop(self) -> None:
        await self._publisher.stop()
