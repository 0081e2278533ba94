"""The time limit from a session's reserve to its first picture: it costs all the while."""

from __future__ import annotations

import asyncio

from gateway.reason import Ended, EndReason

MAX_UNPROVEN = 60.0
"""Seconds where who is paid has not delivered before."""


class FirstPicture:
    """One session's, from now on. `limit` is that of the app's profile, in seconds."""

    def __init__(self, limit: float, *, proven: bool, max_unproven: float = MAX_UNPROVEN) -> None:
        self.limit = limit if proven else min(limit, max_unproven)
        self._came = asyncio.Event()

    def came(self) -> None:
        self._came.set()

    async def watch(self, name: str) -> None:
        """Raises Ended where none comes in time."""
        try:
            async with asyncio.timeout(self.limit):
                await self._came.wait()
        except TimeoutError:
            detail = f"{name} showed no picture within {self.limit:g} s of the session's reserve"
            raise Ended(EndReason.ORCHESTRATOR_LOST, detail) from None
