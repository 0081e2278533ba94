"""Clients that connect again at once where their connection is lost, as broadcasting software does."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from types import TracebackType
from typing import Generic, Self, TypeVar

import aiohttp
from typing_extensions import override

from harness.waiting import within
from harness.webrtc import Refused, WhepViewer, WhipPublisher

PAUSE = 0.1
"""Seconds between two attempts."""
ATTEMPT_TIMEOUT = 10.0
"""Seconds for one attempt: a node that stands still answers nothing."""

Client = TypeVar("Client", WhipPublisher, WhepViewer)


class Reconnecting(ABC, Generic[Client]):
    """`async with` connects, and again until the end; `reconnect` leaves a connection that leads nowhere."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self._lost = asyncio.Event()
        self._connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.connections = 0
        """How often a gateway accepted it."""
        self.node = ""
        """The node that has it, or had it last; empty without a cluster."""
        self.refusals: list[str] = []
        """Why attempts failed, in their order."""
        self.accepted_after: list[float] = []
        """Seconds from each loss of a connection to the next 201."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self._run())
        await within(self._connected.wait(), what=f"{self._url} to be accepted")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await within(self._task, what="the client to end")

    def reconnect(self) -> None:
        """Leave the connection."""
        self._lost.set()

    @abstractmethod
    def _client(self) -> Client:
        """The client for the next attempt."""

    async def _run(self) -> None:
        lost_at: float | None = None
        while True:
            try:
                await self._connect(lost_at)
                lost_at = time.monotonic()
            except (Refused, aiohttp.ClientError, TimeoutError) as error:
                self.refusals.append(repr(error)[:300])
                await asyncio.sleep(PAUSE)

    async def _connect(self, lost_at: float | None) -> None:
        """Connect once; returns when the connection is lost."""
        self._lost = lost = asyncio.Event()
        client = self._client()

        def look() -> None:
            if client.peer.connectionState in ("closed", "failed"):
                lost.set()

        async with asyncio.timeout(ATTEMPT_TIMEOUT) as limit, client:
            limit.reschedule(None)
            self.connections += 1
            self.node = client.headers.get("Livepeer-Node", "")
            if lost_at is not None:
                self.accepted_after.append(time.monotonic() - lost_at)
            self._connected.set()
            client.peer.on("connectionstatechange", look)
            look()
            await lost.wait()


class ReconnectingPublisher(Reconnecting[WhipPublisher]):
    """Publishes the pattern."""

    def __init__(self, http: aiohttp.ClientSession, url: str, *, units: list[bytes] | None = None) -> None:
        super().__init__(http, url)
        self._units = units

    @override
    def _client(self) -> WhipPublisher:
        return WhipPublisher(self._http, self._url, units=self._units, patient=False)


class ReconnectingViewer(Reconnecting[WhepViewer]):
    """Watches."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        super().__init__(http, url)
        self.viewer = WhepViewer(http, url)
        """The newest one; `negatives` are those of all before it, too."""

    @override
    def _client(self) -> WhepViewer:
        former, self.viewer = self.viewer, WhepViewer(self._http, self._url)
        self.viewer.negatives = former.negatives
        return self.viewer
