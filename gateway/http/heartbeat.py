"""go-livepeer's heartbeat: which streams are live goes out, which of them are to end comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import aiohttp
import structlog

log = structlog.get_logger("heartbeat")

HEARTBEAT_TIMEOUT = 5.0


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
        self._http = http
        self._url = url
        self._interval = interval
        self._headers = headers
        self._live = live
        self._terminate = terminate

    async def run(self) -> None:
        while True:
            try:
                for stream_id in await self.beat():
                    self._terminate(stream_id)
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                log.warning("heartbeat failed", url=self._url, error=str(error) or type(error).__name__)
            await asyncio.sleep(self._interval)

    async def beat(self) -> list[str]:
        """One heartbeat; the ids to end. Raises ClientError, TimeoutError or ValueError."""
        async with self._http.post(
            self._url,
            json={"ids": list(self._live())},
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=HEARTBEAT_TIMEOUT),
            allow_redirects=False,
            ssl=True,
        ) as response:
            response.raise_for_status()
            answer: Any = await response.json(content_type=None)
        ids = answer.get("terminatedStreamIds") if isinstance(answer, dict) else None
        if ids is None:
            return []
        if not isinstance(ids, list):
            raise ValueError("terminatedStreamIds is no list")
        return [one for one in ids if isinstance(one, str)]
