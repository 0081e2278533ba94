"""Checks that a channel's server still answers while nothing arrives from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NoReturn

import aiohttp

from gateway.trickle.errors import ChannelLost

DOUBT = 0.5
"""Seconds without data that was due after which the server is asked."""
PATIENCE = 1.5
"""Seconds that an answer may take, at least."""
PATIENCE_FACTOR = 4
"""An answer may take this many times as long as the slowest one before it."""
LONGEST_PATIENCE = 5.0
"""Seconds that an answer may take, at most."""
ASK_ANYWAY = 5.0
"""Seconds between two requests while data arrives: they keep a connection open and measure answers."""
LATE = 0.1
"""Seconds that this process may be late: a time-out that it noticed later than this does not count."""
PAUSE = 0.1
"""Seconds between two requests at least."""


class Liveness:
    """Tells a server that hangs from one that is slow or has nothing to send.

    A process that hangs keeps its connections, and its kernel acknowledges data: only missing answers show
    it. `silence` gives the seconds for which data was due and none came. A request without an answer counts
    only if nothing else arrived meanwhile and this process itself was not late. A server that answers is
    never blamed, however long its worker sends nothing.
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
        """Seconds that an answer may take on this path to the server."""
        return min(max(PATIENCE, PATIENCE_FACTOR * self._slowest), LONGEST_PATIENCE)

    async def run(self) -> NoReturn:
        """Watch the server. Raises ChannelLost when it hangs."""
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
        """Whether any answer came in time; a connection error counts as one, others report it."""
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
