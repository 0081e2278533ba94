"""Which hosts outputs may go to that somebody other than the operator names."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from ipaddress import ip_address

from gateway.aio.inside import PUBLIC, LeadsInside, literal
from gateway.outputs.target import BadTarget, Target

RESOLVE = 5.0
"""Seconds that a name may take to be resolved."""

Resolve = Callable[[str], Awaitable[Sequence[str]]]


async def system_addresses(host: str) -> Sequence[str]:
    """The addresses of a name, IPv4 first. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    addresses = dict.fromkeys(str(one[4][0]) for one in found)
    return sorted(addresses, key=lambda address: ":" in address)


class HostRules:
    """With patterns, only the hosts that they name, wherever these are; else all but those inside."""

    def __init__(self, patterns: Sequence[str] = (), resolve: Resolve = system_addresses) -> None:
        self._patterns = [pattern.lower() for pattern in patterns]
        self._resolve = resolve

    async def address_of(self, target: Target) -> str | None:
        """The address to reach the target at; None: by its name. Raises BadTarget.

        A name is resolved here and not by FFmpeg: it might have another address a moment later.
        """
        host = target.host.lower().rstrip(".")
        if self._patterns:
            if not any(fnmatchcase(host, pattern) for pattern in self._patterns):
                raise BadTarget(f"outputs may not go to {target.shown}: -outputHosts does not name it")
            return None
        named = literal(host)
        try:
            found = [str(named)] if named else await asyncio.wait_for(self._resolve(host), RESOLVE)
            addresses = [ip_address(one.partition("%")[0]) for one in found]
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
