"""The operator's ComfyStream servers: which are healthy, free or suspended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog

from gateway.aio.tasks import TaskGroup, cancel, spawn
from gateway.candidates.suspension import Suspension, SuspensionState
from gateway.candidates.verdict import Judged, Verdict
from gateway.comfystream.timing import DEFAULT_TIMING, ServerTiming
from gateway.flags import without_userinfo

log = structlog.get_logger("comfystream")

COMFYSTREAM = "comfystream"
"""What this kind of job is called, by publishers and in status."""
MAX_UNANSWERED = 2
"""Unanswered questions in a row after which a server counts as gone; a refused connection does at once."""
SETTLING = "it still loads the workflow of a stream that has ended"
MIN_PAUSE = 0.05
"""Seconds between two questions to a healthy server."""


@dataclass(slots=True)
class ComfyCandidate(Judged):
    """A server with its verdict, when a stream looks for one."""

    server: ComfyServer

    @property
    def url(self) -> str:
        return self.server.url


class ComfyServer:
    """One server and its health. It has one pipeline for all connections, so it takes one stream."""

    def __init__(self, url: str, timing: ServerTiming = DEFAULT_TIMING) -> None:
        self.url = without_userinfo(url)
        self.url_with_password = url
        """For requests only; the same where there is none."""
        self.healthy = False
        self.trouble = "it has not been asked yet"
        self.warming = False
        """Whether a workflow is being loaded: the server may not answer meanwhile."""
        self.suspension = SuspensionState()
        self._timing = timing
        self._unanswered = 0
        self._user: object | None = None
        self._free_at = 0.0
        self._settling: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    @property
    def settling(self) -> bool:
        """Whether an offer of a stream that has ended is open yet."""
        return self._settling is not None and not self._settling.done()

    def busy(self, now: float) -> bool:
        return self._user is not None or self.settling or now < self._free_at

    def take(self, user: object, now: float) -> bool:
        """Reserve the server for one job; False where it is not free."""
        if self.busy(now):
            return False
        self._user = user
        return True

    def give_back(self, user: object, now: float) -> None:
        """Free the server, after a rest. Does nothing where another job has it."""
        if self._user is user:
            self._user = None
            self._free_at = now + self._timing.rest

    def settle(self, ending: Coroutine[Any, Any, None]) -> None:
        """Keep the server busy while `ending` runs: it ends a connection that never came up."""
        self._settling = spawn(self._settle(ending), name=f"comfystream-settle {self.url}")

    async def _settle(self, ending: Coroutine[Any, Any, None]) -> None:
        try:
            await ending
        finally:
            self._free_at = time.monotonic() + self._timing.rest

    async def stop(self) -> None:
        """Wait for no offer any longer."""
        await cancel(self._settling)

    async def wait_lost(self) -> str:
        """Wait until the server is not healthy; returns why."""
        while self.healthy:
            await self._changed.wait()
        return self.trouble

    async def watch(self, http: aiohttp.ClientSession) -> None:
        """Keep asking for its health, and notice at once when its process ends."""
        while True:
            self._note(await self._trouble(http))
            if self.healthy:
                await self._while_connected()
                await asyncio.sleep(MIN_PAUSE)
            else:
                await asyncio.sleep(self._timing.health_interval)

    async def _trouble(self, http: aiohttp.ClientSession) -> str:
        """Why it cannot be used; empty where it is healthy."""
        timeout = self._timing.health_timeout
        try:
            async with (
                asyncio.timeout(timeout),
                http.get(f"{self.url_with_password}/health", allow_redirects=False) as response,
            ):
                self._unanswered = 0
                return "" if response.status == 200 else f"its /health says {response.status}"
        except TimeoutError:
            self._unanswered += 1
            excused = self.warming or self.settling or self._unanswered < MAX_UNANSWERED
            return "" if self.healthy and excused else f"no answer in {timeout:g} s"
        except aiohttp.ClientError as error:
            if self._settling is not None and isinstance(error, aiohttp.ClientConnectorError):
                self._settling.cancel()  # its process has ended, and all offers with it
            return f"it cannot be reached: {error}"

    async def _while_connected(self) -> None:
        """Hold an idle connection: its end tells at once that the process has ended."""
        parts = urlsplit(self.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(self._timing.health_timeout):
                reader, writer = await asyncio.open_connection(parts.hostname, port)
                await reader.read(1)
        except (TimeoutError, OSError):
            pass  # `watch` asks again at once
        finally:
            if writer is not None:
                writer.close()

    def _note(self, trouble: str) -> None:
        healthy = not trouble
        if healthy != self.healthy:
            log.info(
                "comfystream server is healthy" if healthy else "comfystream server is not healthy",
                url=self.url,
                detail=trouble,
            )
            self._changed.set()
            self._changed = asyncio.Event()
        self.healthy, self.trouble = healthy, trouble


class ComfyServers:
    """All servers. `run` watches them until it is cancelled; the rest uses what is known and asks nobody."""

    def __init__(
        self, urls: Sequence[str], http: aiohttp.ClientSession, timing: ServerTiming = DEFAULT_TIMING
    ) -> None:
        servers = [ComfyServer(url.rstrip("/"), timing) for url in urls]
        self._servers = {server.url: server for server in servers}
        self._http = http
        self.on_suspended: Callable[[str, Suspension], None] = lambda url, suspension: None
        """Called with each suspension."""

    async def run(self) -> None:
        try:
            async with TaskGroup() as group:
                for server in self._servers.values():
                    group.create_task(server.watch(self._http), name=f"comfystream-watch {server.url}")
        finally:
            await asyncio.gather(*(server.stop() for server in self._servers.values()))

    def __len__(self) -> int:
        return len(self._servers)

    def candidates(self, only: str | None = None) -> list[ComfyCandidate]:
        """All servers with a verdict, the usable ones first; with `only`, the one with that URL."""
        now = time.monotonic()
        url = only.rstrip("/") if only is not None else None
        found = [
            self._candidate(server, now) for server in self._servers.values() if url in (None, server.url)
        ]
        if not any(one.usable for one in found):
            found = [_ignoring_suspension(one) for one in found]
        return sorted(found, key=lambda one: not one.usable)

    def server(self, url: str) -> ComfyServer:
        """The server with this URL. Raises KeyError."""
        return self._servers[url]

    def suspend(self, url: str, reason: str) -> None:
        """Pass a server over for a while after a fault, as long as there is another."""
        suspension = self._servers[url].suspension.fault(reason, time.monotonic())
        self.on_suspended(url, suspension)

    def forgive(self, url: str, reason: str) -> None:
        """Take back a suspension for this reason."""
        self._servers[url].suspension.forgive(reason)

    def reasons_not_ready(self) -> list[str]:
        """Why no server would take a stream now, a sentence each; empty where one would."""
        candidates = self.candidates()
        if any(one.usable for one in candidates):
            return []
        return [f"{one.url}: {one.verdict}: {one.detail}" for one in candidates]

    def state(self) -> list[dict[str, Any]]:
        """For operators: each server with its verdict, and how long its suspension lasts."""
        now = time.monotonic()
        rows = []
        for one in self.candidates():
            suspension = one.server.suspension.active(now)
            rows.append(
                {
                    "url": one.url,
                    "kind": COMFYSTREAM,
                    "price_wei_per_second": "0",
                    "verdict": str(one.verdict),
                    "detail": one.detail,
                    "suspended": suspension.json(now) if suspension else None,
                }
            )
        return rows

    def _candidate(self, server: ComfyServer, now: float) -> ComfyCandidate:
        suspension = server.suspension.active(now)
        if not server.healthy:
            return ComfyCandidate(server, verdict=Verdict.UNREACHABLE, detail=server.trouble)
        if server.busy(now):
            detail = SETTLING if server.settling else "it has a stream, and takes one only"
            return ComfyCandidate(server, verdict=Verdict.NO_CAPACITY, detail=detail)
        if suspension is not None:
            return ComfyCandidate(server, verdict=Verdict.SET_ASIDE, detail=suspension.reason)
        return ComfyCandidate(server)


def _ignoring_suspension(one: ComfyCandidate) -> ComfyCandidate:
    return ComfyCandidate(one.server) if one.verdict is Verdict.SET_ASIDE else one
