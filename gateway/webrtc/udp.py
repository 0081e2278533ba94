"""UDP sockets on this machine's addresses."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import random
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import ifaddr
import structlog
from aioice import stun
from aioice.ice import Connection, StunProtocol
from typing_extensions import override

from gateway.webrtc.ice_settings import PortRange
from gateway.webrtc.paths import Paths

log = structlog.get_logger("webrtc")

LOOPBACK = "127.0.0.1"
SOCKET_BUFFER = 1 << 20
"""Bytes of each socket's kernel buffers: a key frame comes in one burst."""
CHECK_REPEATS = 2
"""Retransmissions of a check, after 0.5 and 1 s; a check of the peer's own has the path tried again."""
CLOSE_TIMEOUT = 2.0
"""Time limit in seconds for a TURN server to release an allocation."""


def ignore(_: object) -> None:
    """Callback of a closed connection: keeping its owner's would keep both in memory (a cycle)."""


class SocketProtocol(asyncio.DatagramProtocol):
    """A protocol whose socket may be written to directly while its transport has nothing to send."""

    socket: socket.socket | None = None
    """None without a socket of its own, as with a relay."""


P = TypeVar("P", bound=SocketProtocol)


class DatagramConnection(Connection):
    """An ICE connection that also takes the datagrams that are not STUN."""

    last_received: float
    """When the peer's last datagram of any kind came, in seconds of the monotonic clock."""
    on_datagram: Callable[[bytes], None]
    paths: Paths
    receiving: socket.socket | None
    """The socket that the last datagram came by; None for a relay's."""

    def heard(self) -> None:
        """A datagram came that nobody but the peer can have sent."""
        self.last_received = time.monotonic()


class MediaProtocol(StunProtocol, SocketProtocol):
    """One local candidate's socket: STUN goes to aioice, everything else to `on_datagram` (RFC 7983).

    What SRTP does not protect is taken from valid addresses only.
    """

    def __init__(self, connection: DatagramConnection) -> None:
        super().__init__(connection)
        self._connection = connection

    @override
    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        assert isinstance(data, bytes)
        connection = self._connection
        connection.receiving = self.socket
        if data and data[0] > 3:
            if data[0] > 127:
                connection.on_datagram(data)
            elif addr[:2] in connection.paths:
                connection.heard()
                connection.on_datagram(data)
            else:
                connection.paths.hold(addr[:2], data)
            return
        try:
            super().datagram_received(data, addr)
        except Exception as error:  # aioice's parser raises any kind, and anybody may send anything
            log.debug("bad STUN packet", error=repr(error))

    @override
    def send_stun(self, message: stun.Message, addr: tuple[str, int]) -> None:
        if message.message_class == stun.Class.RESPONSE:
            # aioice sends a response only after it has verified the check's password
            self._connection.paths.claim(addr)
            self._connection.heard()
        elif message.message_class == stun.Class.REQUEST and not self._connection.paths.may_check(addr):
            return
        super().send_stun(message, addr)

    @override
    async def request(
        self,
        request: stun.Message,
        addr: tuple[str, int],
        integrity_key: bytes | None = None,
        retransmissions: int | None = CHECK_REPEATS,
    ) -> tuple[stun.Message, tuple[str, int]]:
        return await super().request(request, addr, integrity_key, retransmissions)

    def validated(self, addr: tuple[str, int]) -> None:
        """A check to this address was answered: what waited for that is taken."""
        for datagram in self._connection.paths.validate(addr):
            self._connection.on_datagram(datagram)

    @override
    async def close(self) -> None:
        """Close the socket, and release a relay's allocation if its server answers in time."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await super().close()
        except TimeoutError:
            log.info("the TURN server did not release its allocation in time")


class NoFreePort(OSError):
    """All ports of the range are in use at an address."""


async def bind(make: Callable[[], P], host: str, ports: PortRange | None) -> tuple[P, tuple[str, int]]:
    """Open a socket at `host`, on a free port of the range or on any. Returns the protocol and its address.

    Raises NoFreePort where the range is used up, OSError for an address that cannot be used.
    """
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in _in_random_order(ports):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
            sock.bind((host, port))
            _, protocol = await loop.create_datagram_endpoint(make, sock=sock)
        except OSError as error:
            sock.close()
            if ports is None or error.errno != errno.EADDRINUSE:
                raise
            continue
        except BaseException:
            sock.close()
            raise
        protocol.socket = sock
        bound_host, bound_port, *_ = sock.getsockname()
        return protocol, (bound_host, bound_port)
    raise NoFreePort(f"no UDP port of {ports} is free at {host}")


def local_addresses(interfaces: Iterable[str] = (), *, loopback: bool = True) -> list[str]:
    """This machine's addresses, each once: IPv4 first, then IPv6 without link-local ones, then loopback.

    `interfaces` limits them to interfaces of these names and to these addresses. IPv6 loopback is used only
    where it is named.
    """
    wanted = set(interfaces)
    found: dict[str, None] = {}
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            host = entry.ip if isinstance(entry.ip, str) else entry.ip[0]
            if not wanted or wanted & {adapter.name, adapter.nice_name, host}:
                found[host] = None
    used = [host for host in found if _reaches_others(host) or (host in wanted and is_loopback(host))]
    if (loopback or not used) and LOOPBACK not in used:
        used.append(LOOPBACK)
    return sorted(used, key=lambda host: (is_loopback(host), ":" in host))


def address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback


def _reaches_others(host: str) -> bool:
    parsed = ipaddress.ip_address(host)
    return not parsed.is_loopback and not (parsed.version == 6 and parsed.is_link_local)


def _in_random_order(ports: PortRange | None) -> Iterable[int]:
    if ports is None:
        return (0,)
    first, last = ports
    count = last - first + 1
    start = random.randrange(count)
    return (first + (start + step) % count for step in range(count))
