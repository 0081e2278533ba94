"""The limits from a session's reserve to its first picture: it costs all the while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.payments.payer import Payer
from gateway.reason import Ended, EndReason

MAX_UNPROVEN = 60.0
"""Seconds, and seconds that are paid for, where who is paid has not delivered before."""


class FirstPicture:
    """One session's, from now on. `limit` is that of the app's profile, in seconds.

    `payer` is None where nothing is paid; `opening` are the seconds that its first payment was for.
    """

    def __init__(
        self,
        limit: float,
        *,
        proven: bool,
        payer: Payer | None,
        opening: float,
        max_unproven: float = MAX_UNPROVEN,
    ) -> None:
        self.limit = limit if proven else min(limit, max_unproven)
        self._payer = None if proven else payer
        self._paid_for = max(0.0, max_unproven - opening)
        """Seconds after which nothing more is paid until it comes."""
        self._came = asyncio.Event()
        self._withholds = False

    def job_resumed(self) -> None:
        """Its payments were held, and go on: only where they may."""
        if self._withholds and self._payer is not None:
            self._payer.pause(owed=True)

    def came(self) -> None:
        self._came.set()

    async def wait(self) -> None:
        """Until it has come."""
        await self._came.wait()

    async def watch(self, name: str, is_held: Callable[[], bool]) -> None:
        """Raises Ended where none comes in time. Payments go on with it, unless the job is held then."""
        try:
            async with asyncio.timeout(self.limit):
                if self._payer is not None and not await self._comes_within(self._paid_for):
                    self._withholds = True
                    self._payer.pause(owed=True)
                    await self._came.wait()
                    self._withholds = False
                    if not is_held():
                        self._payer.resume()
                await self._came.wait()
        except TimeoutError:
            detail = f"{name} showed no picture within {self.limit:g} s of the session's reserve"
            raise Ended(EndReason.ORCHESTRATOR_LOST, detail) from None

    async def _comes_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._came.wait()
        except TimeoutError:
            return False
        return True
