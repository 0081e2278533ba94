"""What one node does for all of them: the one that holds a name which no stream can have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.cluster.errors import ClusterError
from gateway.stream.admission import NotAdmitted
from gateway.stream.claims import NameTaken

NAME = "on duty"
"""A space is in no stream's name."""
LOOK_EVERY = 5.0
"""Seconds after which the others try again to become the one."""


class Names(Protocol):
    """The part of the names that is used here."""

    async def claim(self, names: list[str]) -> bool: ...

    def release(self, names: list[str]) -> None: ...

    def holds(self, name: str) -> bool: ...


class Duty:
    """`run` until cancelled; `mine` says meanwhile whether this node is the one.

    There may be two for a moment while a node is cut off: what is done once has to bear that.
    """

    def __init__(
        self,
        names: Names,
        connected: Callable[[], bool],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._names = names
        self._connected = connected
        self._sleep = sleep

    @property
    def mine(self) -> bool:
        return self._connected() and self._names.holds(NAME)

    async def run(self) -> None:
        claimed = False
        while True:
            if claimed and self._connected() and not self._names.holds(NAME):
                self._names.release([NAME])  # another node has taken it
                claimed = False
            if not claimed:
                try:
                    await self._names.claim([NAME])
                    claimed = True
                except (NameTaken, NotAdmitted, ClusterError):
                    pass  # another one has it, or nobody can know
            await self._sleep(LOOK_EVERY)
