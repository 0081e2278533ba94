"""One UDP port for all peers, which is easy to open in containers and firewalls."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

from aioice import stun
from typing_extensions import override

from gateway.webrtc.paths import MAX_ADDRESSES, MAX_CLAIMS, Address
from gateway.webrtc.udp import DatagramConnection, MediaProtocol, SocketProtocol, address, bind, log


class UdpMux:
    """Sockets on one port that many ICE connections share.

    Datagrams are assigned by their source address. An address belongs to a connection once it has answered a
    check of that one's own; where the peer's check came from it, it is only claimed, for as long as it is
    nobody's. Datagrams of other addresses are dropped and counted in `strays`.
    """

    def __init__(self, port: int, hosts: Callable[[], Iterable[str]]) -> None:
        self.strays = 0
        self.port = port
        self._hosts = hosts
        self._sockets: dict[str, _SharedSocket] = {}
        self._retired: dict[str, _SharedSocket] = {}
        """Sockets of addresses that are gone, for the connections that they still have."""
        self._binding = asyncio.Lock()

    @classmethod
    async def open(cls, hosts: Callable[[], Iterable[str]], port: int) -> UdpMux:
        """Bind `port` at every address of `hosts()` that can be used. Raises OSError where none can."""
        mux = cls(port, hosts)
        failure = await mux.follow()
        if not mux._sockets:
            raise failure or OSError("this machine has no address")
        return mux

    async def follow(self) -> OSError | None:
        """Take the machine's addresses as they are now. Returns why one that is new cannot be used."""
        failure: OSError | None = None
        async with self._binding:
            hosts = list(self._hosts())
            for gone in [host for host in self._sockets if host not in hosts]:
                log.info("address gone", address=address(gone, self.port))
                self._retired[gone] = self._sockets.pop(gone)
                self._retired[gone].retire()
            self._retired = {host: one for host, one in self._retired.items() if not one.closed}
            for host in hosts:
                if host in self._sockets:
                    continue
                if host in self._retired:
                    self._sockets[host] = self._retired.pop(host)
                    self._sockets[host].take_back()
                    continue
                try:
                    shared, bound = await bind(lambda: _SharedSocket(self), host, (self.port, self.port))
                except OSError as error:
                    log.info("address not usable", address=address(host, self.port), error=str(error))
                    failure = error
                    continue
                shared.host = bound[0]
                self._sockets[host] = shared
        return failure

    async def join(
        self, connection: DatagramConnection, username: str
    ) -> list[tuple[MediaProtocol, tuple[str, int]]]:
        """One protocol per socket for the connection whose local user name fragment is `username`.

        The sockets are those of the machine's present addresses.
        """
        await self.follow()
        sockets = self._sockets.values()
        return [(shared.join(connection, username), (shared.host, self.port)) for shared in sockets]

    @property
    def routes(self) -> int:
        """User names and addresses that are assigned to connections now."""
        return sum(shared.routes for shared in self._all())

    def close(self) -> None:
        for shared in self._all():
            shared.transport.close()

    def _all(self) -> list[_SharedSocket]:
        return [*self._sockets.values(), *self._retired.values()]


class _SharedSocket(SocketProtocol):
    transport: asyncio.DatagramTransport

    def __init__(self, mux: UdpMux) -> None:
        self.host = ""
        self._retired = False
        self._mux = mux
        self._by_username: dict[str, MuxedProtocol] = {}
        self._by_address: dict[Address, MuxedProtocol] = {}
        self._claims: dict[Address, MuxedProtocol] = {}

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    @property
    def routes(self) -> int:
        return len(self._by_username) + len(self._by_address) + len(self._claims)

    def join(self, connection: DatagramConnection, username: str) -> MuxedProtocol:
        protocol = MuxedProtocol(connection, self, username)
        self._by_username[username] = protocol
        return protocol

    def leave(self, protocol: MuxedProtocol) -> None:
        protocol.left = True
        self._by_username.pop(protocol.username, None)
        for known, peers in ((self._by_address, protocol.routes), (self._claims, protocol.claims)):
            while peers:
                _drop(known, peers.popleft(), protocol)
        self._close_unused()

    def retire(self) -> None:
        """Close the socket once its last connection has left: the machine's address is gone."""
        self._retired = True
        self._close_unused()

    def take_back(self) -> None:
        """Keep the socket: its address is there again."""
        self._retired = False

    @property
    def closed(self) -> bool:
        return self.transport.is_closing()

    def _close_unused(self) -> None:
        if self._retired and not self._by_username:
            self.transport.close()

    def learn(self, peer: Address, protocol: MuxedProtocol) -> None:
        """Assign datagrams from the address `peer` to `protocol`."""
        self._claims.pop(peer, None)
        _remember(self._by_address, peer, protocol, protocol.routes, MAX_ADDRESSES)

    def claim(self, peer: Address, protocol: MuxedProtocol) -> None:
        """Assign them until it is known whose they are."""
        if peer not in self._by_address:
            _remember(self._claims, peer, protocol, protocol.claims, MAX_CLAIMS)

    @override
    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        is_media = bool(data) and data[0] > 3
        protocol = self._of_address(addr[:2]) if is_media else self._of_stun(data)
        if protocol is None:
            self._mux.strays += 1
        else:
            protocol.datagram_received(data, addr)

    def _of_address(self, peer: Address) -> MuxedProtocol | None:
        return self._by_address.get(peer) or self._claims.get(peer)

    def _of_stun(self, data: bytes) -> MuxedProtocol | None:
        try:
            message = stun.parse_message(data)
        except Exception:  # aioice's parser raises any kind, and anybody may send anything
            return None
        if message.message_class == stun.Class.REQUEST:
            local, _, _ = str(message.attributes.get("USERNAME", "")).partition(":")
            return self._by_username.get(local)
        for protocol in self._by_username.values():
            if message.transaction_id in protocol.transactions:
                return protocol
        return None


def _remember(
    known: dict[Address, MuxedProtocol],
    peer: Address,
    protocol: MuxedProtocol,
    peers: deque[Address],
    most: int,
) -> None:
    if known.get(peer) is protocol or protocol.left:
        return
    known[peer] = protocol
    peers.append(peer)
    if len(peers) > most:
        _drop(known, peers.popleft(), protocol)


def _drop(known: dict[Address, MuxedProtocol], peer: Address, protocol: MuxedProtocol) -> None:
    if known.get(peer) is protocol:
        del known[peer]


class MuxedProtocol(MediaProtocol):
    """One connection on a shared socket."""

    def __init__(self, connection: DatagramConnection, shared: _SharedSocket, username: str) -> None:
        super().__init__(connection)
        self.username = username
        self.routes: deque[Address] = deque()
        self.claims: deque[Address] = deque()
        self.left = False
        """Whether it is closed, and gets no datagrams any more."""
        self._shared = shared
        self.socket = shared.socket
        self.connection_made(_SharedTransport(shared, self))

    @override
    def send_stun(self, message: stun.Message, addr: tuple[str, int]) -> None:
        super().send_stun(message, addr)
        if message.message_class == stun.Class.RESPONSE:
            self._shared.claim(addr, self)

    @override
    def validated(self, addr: tuple[str, int]) -> None:
        self._shared.learn(addr, self)
        super().validated(addr)


class _SharedTransport(asyncio.DatagramTransport):
    """One connection's transport: closing it leaves the shared socket open."""

    def __init__(self, shared: _SharedSocket, protocol: MuxedProtocol) -> None:
        super().__init__()
        self._shared = shared
        self._protocol = protocol
        self._closed = False

    @override
    def sendto(self, data: Any, addr: Any = None) -> None:
        if not self._closed and not self._shared.transport.is_closing():
            self._shared.transport.sendto(data, addr)

    @override
    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._shared.leave(self._protocol)
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    @override
    def is_closing(self) -> bool:
        return self._closed

    @override
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._shared.transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return int(self._shared.transport.get_write_buffer_size())  # type: ignore[attr-defined]
