"""How an app registers at an orchestrator of live runners, and learns of its sessions' ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import aiohttp
import structlog

from gateway.aio.tasks import cancel, spawn
from gateway.trickle.errors import ChannelError
from gateway.trickle.events import JsonSubscriber

HEARTBEAT_INTERVAL = 5.0
RETRY_INTERVAL = 0.5
TIMEOUT = 5.0

log = structlog.get_logger("devnet.app")


class NotRegistered(OSError):
    """The orchestrator did not take the registration; the message says why."""


class HeartbeatSender:
    """Sends heartbeats until it is closed; registers anew where the orchestrator forgot it.

    `released` is called with each session's id that the orchestrator has ended.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        orchestrator: str,
        secret: str,
        body: Mapping[str, Any],
        *,
        released: Callable[[str], None],
    ) -> None:
        self._http = http
        self._url = orchestrator.rstrip("/")
        self._secret = secret
        self._body = dict(body)
        self._released = released
        self._runner_id = ""
        self._heartbeat_secret: str | None = None
        self._interval = HEARTBEAT_INTERVAL
        self._due = asyncio.Event()
        self._beating: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Register. Raises NotRegistered."""
        await self._beat()
        self._beating = spawn(self._beat_on(), name="heartbeat")

    def beat_soon(self) -> None:
        """Send the next heartbeat now."""
        self._due.set()

    async def close(self) -> None:
        """Stop the heartbeats and unregister, where the orchestrator still answers."""
        await cancel(self._beating, self._listening)
        if self._heartbeat_secret is None:
            return
        try:
            async with self._http.post(
                f"{self._url}/runners/{self._runner_id}/unregister",
                headers={"Authorization": self._heartbeat_secret},
                timeout=aiohttp.ClientTimeout(total=1),
            ):
                pass
        except (aiohttp.ClientError, TimeoutError) as error:
            log.debug("not unregistered", error=str(error))

    async def _beat_on(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._due.wait()
            self._due.clear()
            try:
                await self._beat()
                self._interval = HEARTBEAT_INTERVAL
            except NotRegistered as error:
                log.warning("heartbeat failed", error=str(error))
                self._interval = RETRY_INTERVAL

    async def _beat(self) -> None:
        """Send one heartbeat. After a 401 or 404 the next one registers anew. Raises NotRegistered."""
        first = self._heartbeat_secret is None
        body = self._body | ({} if first else {"runner_id": self._runner_id})
        headers = {"Authorization": self._heartbeat_secret or self._secret}
        try:
            async with self._http.post(
                f"{self._url}/runners/heartbeat",
                json=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            ) as answer:
                if answer.status in (401, 404):
                    self._heartbeat_secret = None
                if answer.status != 200:
                    raise NotRegistered(f"the orchestrator answered {answer.status}")
                told = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise NotRegistered(f"the orchestrator cannot be reached: {type(error).__name__}") from error
        self._runner_id = told["runner_id"]
        if first:
            self._heartbeat_secret = told["heartbeat_secret"]
            await cancel(self._listening)
            self._listening = spawn(self._listen(told["o2r"]["internal_url"]), name="o2r")
            log.info("registered", orchestrator=self._url)

    async def _listen(self, url: str) -> None:
        messages = JsonSubscriber(self._http, url, log=log)
        try:
            async for message in messages:
                if message.get("event") == "released":
                    self._released(str(message.get("session")))
        except ChannelError as error:
            log.info("no more news of sessions", error=str(error))
        finally:
            await messages.close()
