"""The addresses of `-icePublicIP`: those given, and those that its DNS names have now."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

import structlog

LOOK_UP_EVERY = 60.0
"""Seconds between two look-ups."""
TIME_LIMIT = 5.0
"""Seconds for a look-up."""
MAX_ADDRESSES = 8
"""Addresses of a name that are offered."""

LookUp = Callable[[str], Awaitable[Sequence[str]]]
"""The addresses of a name. Raises OSError."""


async def look_up(name: str) -> list[str]:
    """Ask the system's resolver. Raises OSError, TimeoutError among them."""
    async with asyncio.timeout(TIME_LIMIT):
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    return [str(address[0]) for *_, address in found]


class PublicAddresses:
    """What peers are offered. A name that cannot be looked up keeps the addresses that it had."""

    def __init__(self, given: Sequence[str], *, look_up: LookUp = look_up) -> None:
        self._given = given
        self._look_up = look_up
        self._of_name: dict[str, tuple[str, ...]] = {one: () for one in given if not is_address(one)}

    @property
    def names(self) -> int:
        """How many of them are names."""
        return len(self._of_name)

    @property
    def now(self) -> tuple[str, ...]:
        """The addresses in the order of the flag, each once."""
        addresses = (address for one in self._given for address in self._of_name.get(one, (one,)))
        return tuple(dict.fromkeys(addresses))

    async def refresh(self) -> None:
        """Look up all names."""
        log = structlog.get_logger("webrtc")
        for name, former in self._of_name.items():
            try:
                found = tuple(dict.fromkeys(filter(is_address, await self._look_up(name))))[:MAX_ADDRESSES]
            except (OSError, UnicodeError) as error:
                log.warning("-icePublicIP was not looked up", name=name, error=str(error), kept=former)
                continue
            if sorted(found) != sorted(former):
                log.info("-icePublicIP has other addresses", name=name, addresses=found)
                self._of_name[name] = found

    async def run(self) -> NoReturn:
        """Look them up again and again."""
        while True:
            await asyncio.sleep(LOOK_UP_EVERY)
            await self.refresh()


def is_address(text: str) -> bool:
    """Whether it is an IP address, without a zone."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text
