"""The limits from a session's reserve to its first picture: it costs all the while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction

from gateway.payments.payer import Payer
from gateway.reason import Ended, EndReason

MAX_UNPROVEN = 60.0
"""Seconds, and seconds that are paid for, where who is paid has not delivered before."""
CHECK = 0.2
"""Seconds between two looks at what was paid: payments are a second apart at least."""


class FirstPicture:
    """One session's, from now on. `limit` is that of the app's profile, in seconds.

    `payer` is None where nothing is paid; `before` are the seconds that a former run has paid for.
    """

    def __init__(
        self,
        limit: float,
        *,
        proven: bool,
        payer: Payer | None,
        before: Fraction = Fraction(0),
        max_unproven: float = MAX_UNPROVEN,
    ) -> None:
        self.limit = limit if proven else min(limit, max_unproven)
        self._payer = None if proven else payer
        self._max_paid = before + Fraction(max_unproven)
        """Seconds that may be paid for until it comes."""
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
                if self._payer is not None and not await self._comes_while_paid(self._payer):
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

    async def _comes_while_paid(self, payer: Payer) -> bool:
        """Whether it comes before another payment might be one too many: tickets may be large."""
        while payer.seconds_after_next <= self._max_paid:
            try:
                async with asyncio.timeout(CHECK):
                    await self._came.wait()
            except TimeoutError:
                continue
            return True
        return self._came.is_set()
