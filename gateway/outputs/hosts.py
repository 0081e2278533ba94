"""Which hosts outputs may go to that somebody other than the operator names."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from functools import partial
from ipaddress import ip_address

from gateway.aio.inside import PUBLIC, LeadsInside, literal
from gateway.outputs.target import BadTarget, Target

RESOLVE = 5.0
"""Seconds that a name may take to be resolved."""
MAX_WAITING = 16
"""Names that are resolved or wait for it at once."""
_threads = ThreadPoolExecutor(2, "output-names")
"""Of their own: names that take long are not to hold up others' names and files."""

Resolve = Callable[[str], Awaitable[Sequence[str]]]


async def system_addresses(host: str) -> Sequence[str]:
    """The addresses of a name, IPv4 first. Raises OSError."""
    look = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_threads, look)
    addresses = dict.fromkeys(str(one[4][0]) for one in found)
    return sorted(addresses, key=lambda address: ":" in address)


class TooManyNames(BadTarget):
    """So many names are being resolved that this one is not: it may be later."""


class HostRules:
    """With patterns, only the hosts that they name, wherever these are; else all but those inside."""

    def __init__(self, patterns: Sequence[str] = (), resolve: Resolve = system_addresses) -> None:
        self._patterns = [pattern.lower() for pattern in patterns]
        self._resolve = resolve
        self._waiting = 0

    async def address_of(self, target: Target) -> str | None:
        """The address to reach the target at; None: by its name. Raises BadTarget or TooManyNames.

        A name is resolved here and not by FFmpeg: it might have another address a moment later.
        """
        host = target.host.lower().rstrip(".")
        if self._patterns:
            if not any(fnmatchcase(host, pattern) for pattern in self._patterns):
                raise BadTarget(f"outputs may not go to {target.shown}: -outputHosts does not name it")
            return None
        named = literal(host)
        try:
            found = [str(named)] if named else await self._look_up(host)
            addresses = [ip_address(one.partition("%")[0]) for one in found]
        except TooManyNames:
            raise
        except (OSError, UnicodeError, ValueError) as error:
            raise BadTarget(f"the host of {target.shown} has no address") from error
        if not addresses:
            raise BadTarget(f"the host of {target.shown} has no address")
        try:
            PUBLIC.check(host, addresses)
        except LeadsInside as error:
            raise BadTarget(
                f"{target.shown} is in a private network: its operator may allow it by -outputHosts"
            ) from error
        return str(addresses[0])

    async def _look_up(self, host: str) -> Sequence[str]:
        if self._waiting >= MAX_WAITING:
            raise TooManyNames("too many names of hosts are being looked up")
        self._waiting += 1
        try:
            return await asyncio.wait_for(self._resolve(host), RESOLVE)
        finally:
            self._waiting -= 1
