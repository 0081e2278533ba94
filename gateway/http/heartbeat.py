"""go-livepeer's heartbeat: reports the live streams, and ends those that the answer names."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import aiohttp
import structlog

from gateway.http.webhook_client import ErrorStatus, WebhookClient

log = structlog.get_logger("heartbeat")


class Heartbeat:
    """POSTs the ids of the live streams to `url` every `interval` seconds; the answer names those to end.

    `live` gives the ids, `terminate` ends the stream of an id, `on_duty` says whether it is for this
    node of a cluster to do.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        *,
        interval: float,
        headers: Mapping[str, str],
        live: Callable[[], Awaitable[Sequence[str]]],
        terminate: Callable[[str], Awaitable[None]],
        on_duty: Callable[[], bool] = lambda: True,
    ) -> None:
        self._server = WebhookClient(http, url, headers)
        self._interval = interval
        self._live = live
        self._terminate = terminate
        self._on_duty = on_duty

    async def run(self) -> None:
        while True:
            try:
                for stream_id in await self.beat() if self._on_duty() else ():
                    await self._terminate(stream_id)
            except (ErrorStatus, aiohttp.ClientError, TimeoutError, ValueError) as error:
                log.warning("heartbeat failed", error=str(error) or type(error).__name__)
            await asyncio.sleep(self._interval)

    async def beat(self) -> list[str]:
        """Send one heartbeat; gives the ids to end. Raises what `run` catches."""
        answer = await self._server.ask({"ids": list(await self._live())})
        ids = answer.get("terminatedStreamIds") if isinstance(answer, dict) else None
        if ids is None:
            return []
        if not isinstance(ids, list):
            raise ValueError("terminatedStreamIds is not a list")
        return [one for one in ids if isinstance(one, str)]
