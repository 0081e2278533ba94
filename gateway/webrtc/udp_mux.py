"""One UDP port for all peers, which is easy to open in containers and firewalls."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, cast

from aioice import stun
from typing_extensions import override

from gateway.webrtc.udp import DatagramConnection, MediaProtocol, SocketProtocol, address, bind, log

MAX_ROUTES = 64
"""Limit of remembered addresses of one peer, which may use several and change them."""


class UdpMux:
    """Sockets on one port that many ICE connections share.

    Datagrams are assigned by their source address. An address is learned from its first connectivity check,
    whose user name names the connection (RFC 8445, 7.2.2). Others are dropped and counted in `strays`.
    """

    def __init__(self) -> None:
        self.strays = 0
        self.port = 0
        self._sockets: list[_SharedSocket] = []

    @classmethod
    async def open(cls, hosts: Iterable[str], port: int) -> UdpMux:
        """Bind `port` at every address of `hosts` that can be used. Raises OSError where none can."""
        mux = cls()
        mux.port = port
        failure: OSError | None = None
        for host in hosts:
            try:
                shared, bound = await bind(lambda: _SharedSocket(mux), host, (port, port))
            except OSError as error:
                log.info("address not usable", address=address(host, port), error=str(error))
                failure = error
                continue
            shared.host = bound[0]
            mux._sockets.append(shared)
        if not mux._sockets:
            raise failure or OSError("this machine has no address")
        return mux

    def join(
        self, connection: DatagramConnection, username: str
    ) -> list[tuple[MediaProtocol, tuple[str, int]]]:
        """One protocol per socket for the connection whose local user name fragment is `username`."""
        return [(shared.join(connection, username), (shared.host, self.port)) for shared in self._sockets]

    @property
    def routes(self) -> int:
        """User names and addresses that are assigned to connections now."""
        return sum(shared.routes for shared in self._sockets)

    def close(self) -> None:
        for shared in self._sockets:
            shared.transport.close()


class _SharedSocket(SocketProtocol):
    transport: asyncio.DatagramTransport

    def __init__(self, mux: UdpMux) -> None:
        self.host = ""
        self._mux = mux
        self._by_username: dict[str, MuxedProtocol] = {}
        self._by_address: dict[tuple[Any, ...], MuxedProtocol] = {}

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    @property
    def routes(self) -> int:
        return len(self._by_username) + len(self._by_address)

    def join(self, connection: DatagramConnection, username: str) -> MuxedProtocol:
        protocol = MuxedProtocol(connection, self, username)
        self._by_username[username] = protocol
        return protocol

    def leave(self, protocol: MuxedProtocol) -> None:
        self._by_username.pop(protocol.username, None)
        for peer in protocol.routes:
            if self._by_address.get(peer) is protocol:
                del self._by_address[peer]
        protocol.routes.clear()

    def learn(self, peer: tuple[Any, ...], protocol: MuxedProtocol) -> None:
        """Assign datagrams from the address `peer` to `protocol`."""
        if self._by_address.get(peer) is protocol or protocol.username not in self._by_username:
            return
        self._by_address[peer] = protocol
        protocol.routes.append(peer)
        if len(protocol.routes) > MAX_ROUTES:
            oldest = protocol.routes.popleft()
            if self._by_address.get(oldest) is protocol:
                del self._by_address[oldest]

    @override
    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        is_media = bool(data) and data[0] > 3
        protocol = self._by_address.get(addr) if is_media else self._of_stun(data, addr)
        if protocol is None:
            self._mux.strays += 1
        else:
            protocol.datagram_received(data, addr)

    def _of_stun(self, data: bytes, addr: tuple[Any, ...]) -> MuxedProtocol | None:
        try:
            message = stun.parse_message(data)
        except Exception:  # aioice's parser raises any kind, and anybody may send anything
            return None
        if message.message_class == stun.Class.REQUEST:
            local, _, _ = str(message.attributes.get("USERNAME", "")).partition(":")
            return self._by_username.get(local)
        for protocol in self._by_username.values():
            if message.transaction_id in protocol.transactions:
                # an answer to our own check; an ice-lite peer sends no checks
                self.learn(addr, protocol)
                return protocol
        return None


class MuxedProtocol(MediaProtocol):
    """One connection on a shared socket."""

    def __init__(self, connection: DatagramConnection, shared: _SharedSocket, username: str) -> None:
        super().__init__(connection)
        self.username = username
        self.routes: deque[tuple[Any, ...]] = deque()
        self._shared = shared
        self.socket = shared.socket
        self.connection_made(_SharedTransport(shared, self))

    @override
    def send_stun(self, message: stun.Message, addr: tuple[str, int]) -> None:
        if message.message_class == stun.Class.RESPONSE:
            # aioice sends a response only after it has verified the check's password
            self._shared.learn(self._full(addr), self)
        super().send_stun(message, addr)

    def _full(self, addr: tuple[str, int]) -> tuple[Any, ...]:
        return (*addr, 0, 0) if ":" in addr[0] else addr


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
