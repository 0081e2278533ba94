"""Checks that a channel's server still answers while nothing arrives from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NoReturn

import aiohttp

from gateway.trickle.errors import ChannelLost

DOUBT = 0.5
"""Seconds without a sign of life after which the server is asked."""
PATIENCE = 1.5
"""Seconds that an answer may take at least, and how many times as long as the slowest one so far:"""
PATIENCE_FACTOR = 4
LONGEST_PATIENCE = 5.0
ASK_ANYWAY = 5.0
"""Seconds between two questions without doubt: they keep a connection open and tell how long answers take."""
LATE = 0.1
"""Seconds by which this process itself may be late for its judgement to count."""
PAUSE = 0.1
"""Seconds between two questions at least."""


class Liveness:
    """Tells a server that hangs from one that is slow or has nothing to say.

    A process that hangs keeps its connections, and its kernel acknowledges what it is sent: only what it
    does not answer shows. `silence` gives the seconds in which a sign of life was due and none came. A
    question without an answer counts only where nothing else came meanwhile, and where this process had
    its own time; a server that answers is never blamed, however long its worker is silent.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        silence: Callable[[], float],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._silence = silence
        self._clock = clock
        self._slowest = 0.0

    @property
    def patience(self) -> float:
        """Seconds that an answer may take, on this way to the server."""
        return min(max(PATIENCE, PATIENCE_FACTOR * self._slowest), LONGEST_PATIENCE)

    async def run(self) -> NoReturn:
        """Raises ChannelLost."""
        asked_at = float("-inf")
        while True:
            now = self._clock()
            due_in = min(DOUBT - self._silence(), asked_at + ASK_ANYWAY - now)
            if due_in <= 0:
                asked_at = now
                await self._ask(now)
            await asyncio.sleep(max(due_in, PAUSE))

    async def _ask(self, asked_at: float) -> None:
        patience = self.patience
        answered = await self._answers(patience)
        took = self._clock() - asked_at
        if answered:
            self._slowest = max(self._slowest, took)
        elif took < patience + LATE and self._silence() >= patience:
            raise ChannelLost(f"{self._url}: the server has answered nothing for {took:.1f} s")

    async def _answers(self, patience: float) -> bool:
        """Whether an answer came in time: any will do, and so will an error of those who relay."""
        try:
            async with (
                asyncio.timeout(patience),
                self._http.get(f"{self._url}/next", allow_redirects=False),
            ):
                return True
        except TimeoutError:
            return False
        except (aiohttp.ClientError, OSError):
            return True
