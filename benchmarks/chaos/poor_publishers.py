"""Publishers that share a small limit of money, and of streams, and try on and on."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

import aiohttp

from benchmarks.chaos.chaos_node import ChaosNode
from benchmarks.chaos.roaming_stream import FAILURES, HEIGHT, WIDTH
from gateway.aio.tasks import cancel, spawn
from harness.webrtc import Refused, WhipPublisher, encoded_pattern

CUSTOMER = "poor"
TOKEN = "poor"
RICH_TOKEN = "rich"
"""Of all other publishers."""
PUBLISHERS = 4
LIMIT_WEI = 5 * 10**17
"""Some eight first payments."""
TOKENS = f"{RICH_TOKEN}\n{TOKEN} customer={CUSTOMER} maxStreams=2 maxPublisherSpendPerHour=0.5ETH\n"
"""The file of `-publishTokens`."""
STAYS = 2.0
"""Seconds for which each publishes."""
PAUSE = (0.5, 2.5)
"""Seconds between two tries of one publisher, from and to."""


def http_of(token: str, timeout: float) -> aiohttp.ClientSession:
    """A client with a token."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=timeout), headers={"Authorization": f"Bearer {token}"}
    )


class PoorPublishers:
    """`async with` lets them try, each at any node that works."""

    def __init__(self, nodes: Sequence[ChaosNode], http: aiohttp.ClientSession, seed: int) -> None:
        self.outcomes: Counter[str] = Counter()
        """201, or the code of the refusal."""
        self._nodes = nodes
        self._http = http
        self._random = random.Random(seed)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> PoorPublishers:
        self._tasks = [spawn(self._try(f"poor{n}"), name=f"poor{n}") for n in range(PUBLISHERS)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        await cancel(*self._tasks)

    async def _try(self, name: str) -> None:
        units = encoded_pattern(WIDTH, HEIGHT)
        while True:
            await asyncio.sleep(self._random.uniform(*PAUSE))
            working = [node for node in self._nodes if node.works]
            if not working:
                continue
            url = self._random.choice(working).gateway.live(f"{name}/whip")
            try:
                async with WhipPublisher(self._http, url, units=units, patient=False) as publisher:
                    self.outcomes["201"] += 1
                    await asyncio.sleep(STAYS)
                    await publisher.stop(resume=False)
            except Refused as refused:
                self.outcomes[str(refused.problem.get("code", refused.status))] += 1
            except FAILURES as error:
                self.outcomes[type(error).__name__] += 1
