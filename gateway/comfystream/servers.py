"""The operator's ComfyStream servers: who is well, who is free, and who is to be left alone for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog

from gateway.aio.tasks import TaskGroup
from gateway.candidates.suspension import SuspensionState
from gateway.candidates.verdict import Judged, Verdict

log = structlog.get_logger("comfystream")

COMFYSTREAM = "comfystream"
"""What this kind of job is called, by publishers and in status."""
HEALTH_INTERVAL = 1.0
HEALTH_TIMEOUT = 3.0
"""Seconds for one answer, and for the connection that watches a server to come up."""
MAX_SILENCES = 2
"""Unanswered questions in a row that make a server count as gone; a refused connection does at once."""
SHORTEST_PAUSE = 0.05
REST = 1.0
"""Seconds that a server is left alone after a stream: that stream's end stops the prompts of all."""


@dataclass(slots=True)
class ComfyCandidate(Judged):
    """A server as one stream sees it when it looks for one."""

    server: ComfyServer

    @property
    def url(self) -> str:
        return self.server.url

    def json(self) -> dict[str, Any]:
        """As the status of a stream lists it: the own servers cost nothing."""
        return {
            "url": self.url,
            "kind": COMFYSTREAM,
            "price_wei_per_second": "0",
            "verdict": str(self.verdict),
            "detail": self.detail,
        }


class ComfyServer:
    """One server, watched. It has one pipeline for all its connections, so it takes one stream."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.healthy = False
        self.trouble = "it has not been asked yet"
        self.warming = False
        """Whether it may be silent for a while: a workflow is being loaded."""
        self.suspension = SuspensionState()
        self._silences = 0
        self._user: object | None = None
        self._free_at = 0.0
        self._changed = asyncio.Event()

    def busy(self, now: float) -> bool:
        return self._user is not None or now < self._free_at

    def take(self, user: object, now: float) -> bool:
        """Have the server for oneself; False where somebody has it."""
        if self.busy(now):
            return False
        self._user = user
        return True

    def give_back(self, user: object, now: float) -> None:
        """Let the next one have it, in a while. Does nothing for who does not have it."""
        if self._user is user:
            self._user = None
            self._free_at = now + REST

    async def wait_lost(self) -> str:
        """Wait until the server is not well; why, in words."""
        while self.healthy:
            await self._changed.wait()
        return self.trouble

    async def watch(self, http: aiohttp.ClientSession) -> None:
        """Keep asking how it is, and notice at once when it goes."""
        while True:
            self._note(await self._trouble(http))
            if self.healthy:
                await self._while_connected()
                await asyncio.sleep(SHORTEST_PAUSE)
            else:
                await asyncio.sleep(HEALTH_INTERVAL)

    async def _trouble(self, http: aiohttp.ClientSession) -> str:
        """What keeps it from being used; empty when it is well."""
        try:
            async with (
                asyncio.timeout(HEALTH_TIMEOUT),
                http.get(f"{self.url}/health", allow_redirects=False) as response,
            ):
                self._silences = 0
                return "" if response.status == 200 else f"its /health says {response.status}"
        except TimeoutError:
            self._silences += 1
            patient = self.warming or self._silences < MAX_SILENCES
            return "" if self.healthy and patient else f"no answer in {HEALTH_TIMEOUT:g} s"
        except aiohttp.ClientError as error:
            return f"it cannot be reached: {error}"

    async def _while_connected(self) -> None:
        """Hold a connection on which nothing is said: a process that dies closes it at once."""
        parts = urlsplit(self.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT):
                reader, writer = await asyncio.open_connection(parts.hostname, port)
                await reader.read(1)
        except (TimeoutError, OSError):
            pass  # it is asked again right now
        finally:
            if writer is not None:
                writer.close()

    def _note(self, trouble: str) -> None:
        healthy = not trouble
        if healthy != self.healthy:
            log.info(
                "comfystream server is well" if healthy else "comfystream server is not well",
                url=self.url,
                detail=trouble,
            )
            self._changed.set()
            self._changed = asyncio.Event()
        self.healthy, self.trouble = healthy, trouble


class ComfyServers:
    """All of them. `run` watches until it is cancelled; the rest answers at once from what is known."""

    def __init__(self, urls: Sequence[str], http: aiohttp.ClientSession) -> None:
        self._servers = {server.url: server for server in (ComfyServer(url.rstrip("/")) for url in urls)}
        self._http = http

    async def run(self) -> None:
        async with TaskGroup() as group:
            for server in self._servers.values():
                group.create_task(server.watch(self._http), name=f"comfystream-watch {server.url}")

    def candidates(self, only: str | None = None) -> list[ComfyCandidate]:
        """Everybody with a verdict, the usable ones first. `only` leaves the one with that URL."""
        now = time.monotonic()
        url = only.rstrip("/") if only is not None else None
        found = [
            self._candidate(server, now) for server in self._servers.values() if url in (None, server.url)
        ]
        if not any(one.usable for one in found):
            found = [self._forgiven(one) for one in found]
        return sorted(found, key=lambda one: not one.usable)

    def server(self, url: str) -> ComfyServer:
        """The server with this URL. Raises KeyError."""
        return self._servers[url]

    def suspend(self, url: str, reason: str) -> None:
        """Pass a server over for a while after a fault, as long as there is another."""
        self._servers[url].suspension.fault(reason, time.monotonic())

    def reasons_not_ready(self) -> list[str]:
        """Why a stream would not be served here now, a sentence each; empty when one would be."""
        candidates = self.candidates()
        if any(one.usable for one in candidates):
            return []
        return [f"{one.url}: {one.verdict}: {one.detail}" for one in candidates]

    def state(self) -> list[dict[str, Any]]:
        """For operators: each server with its verdict and, where it is set aside, for how long."""
        now = time.monotonic()
        rows = []
        for one in self.candidates():
            suspension = one.server.suspension.active(now)
            rows.append({**one.json(), "suspended": suspension.json(now) if suspension else None})
        return rows

    def _candidate(self, server: ComfyServer, now: float) -> ComfyCandidate:
        suspension = server.suspension.active(now)
        if not server.healthy:
            return ComfyCandidate(server, verdict=Verdict.UNREACHABLE, detail=server.trouble)
        if server.busy(now):
            return ComfyCandidate(
                server, verdict=Verdict.NO_CAPACITY, detail="it has a stream: its pipeline takes one"
            )
        if suspension is not None:
            return ComfyCandidate(server, verdict=Verdict.SET_ASIDE, detail=suspension.reason)
        return ComfyCandidate(server)

    def _forgiven(self, one: ComfyCandidate) -> ComfyCandidate:
        return ComfyCandidate(one.server) if one.verdict is Verdict.SET_ASIDE else one
