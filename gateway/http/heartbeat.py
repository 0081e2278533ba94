"""go-livepeer's heartbeat: which streams are live goes out, which of them are to end comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import aiohttp
import structlog

from gateway.http.webhook_client import AnsweredNo, WebhookClient

log = structlog.get_logger("heartbeat")


class Heartbeat:
    """Tells `url` the ids of the live streams every `interval` seconds and ends those that it names."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        *,
        interval: float,
        headers: Mapping[str, str],
        live: Callable[[], Sequence[str]],
        terminate: Callable[[str], None],
    ) -> None:
        self._server = WebhookClient(http, url, headers)
        self._interval = interval
        self._live = live
        self._terminate = terminate

    async def run(self) -> None:
        while True:
            try:
                for stream_id in await self.beat():
                    self._terminate(stream_id)
            except (AnsweredNo, aiohttp.ClientError, TimeoutError, ValueError) as error:
                log.warning("heartbeat failed", error=str(error) or type(error).__name__)
            await asyncio.sleep(self._interval)

    async def beat(self) -> list[str]:
        """One heartbeat; the ids to end. Raises AnsweredNo, ClientError, TimeoutError or ValueError."""
        answer = await self._server.ask({"ids": list(self._live())})
        ids = answer.get("terminatedStreamIds") if isinstance(answer, dict) else None
        if ids is None:
            return []
        if not isinstance(ids, list):
            raise ValueError("terminatedStreamIds is no list")
        return [one for one in ids if isinstance(one, str)]
