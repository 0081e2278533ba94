"""Checks that a channel's server still answers while nothing arrives from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

import aiohttp

from gateway.trickle.errors import ChannelLost

LATE = 0.1
"""Seconds that this process may be late: a time-out that it noticed later than this does not count."""


@dataclass(frozen=True, slots=True)
class LivenessTiming:
    """When a server is asked, and time limits for its answer. All in seconds."""

    doubt: float = 0.5
    """The server is asked after this long without data that was due."""
    patience: float = 1.5
    """Time limit for an answer, at least."""
    patience_factor: float = 4
    """Time limit for an answer, as a multiple of the slowest one before it."""
    longest_patience: float = 5.0
    """Time limit for an answer, at most."""
    last_chance: float = 0.3
    """Time limit for the answer to a last request, at most, once it is known to be at fault."""
    ask_anyway: float = 5.0
    """Time between two requests while data arrives: they keep a connection open and measure answers."""
    pause: float = 0.1
    """Time between two requests, at least."""


DEFAULT_TIMING = LivenessTiming()


class Liveness:
    """Tells a server that hangs from one that is slow or has nothing to send.

    A process that hangs keeps its connections, and its kernel acknowledges data: only missing answers show
    it. `silence` gives the seconds for which data was due and none came; once that is too long, `is_to_blame`
    says whether it is the server's fault. A request without an answer counts
    only if nothing else arrived meanwhile and this process itself was not late. A server that answers is
    never blamed, however long its worker sends nothing.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        silence: Callable[[], float],
        *,
        is_to_blame: Callable[[], Awaitable[bool]],
        timing: LivenessTiming = DEFAULT_TIMING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._silence = silence
        self._is_to_blame = is_to_blame
        self._timing = timing
        self._clock = clock
        self._slowest = 0.0

    @property
    def patience(self) -> float:
        """Seconds that an answer may take on this path to the server."""
        timing = self._timing
        return min(max(timing.patience, timing.patience_factor * self._slowest), timing.longest_patience)

    async def run(self) -> NoReturn:
        """Watch the server. Raises ChannelLost when it hangs."""
        asked_at = float("-inf")
        while True:
            now = self._clock()
            due_in = min(self._timing.doubt - self._silence(), asked_at + self._timing.ask_anyway - now)
            if due_in <= 0:
                asked_at = now
                await self._ask(now)
            await asyncio.sleep(max(due_in, self._timing.pause))

    async def _ask(self, asked_at: float) -> None:
        patience = self.patience
        answered = await self._answers(patience)
        took = self._clock() - asked_at
        if answered:
            self._slowest = max(self._slowest, took)
        elif took < patience + LATE and self._silence() >= patience and await self._is_to_blame():
            if await self._answers(min(patience, self._timing.last_chance)):
                return  # it came back while others were asked
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
