"""ICE (RFC 8445) through aioice; what is not ICE is handed on in the callback it comes in."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import structlog
from aioice import Candidate, Connection
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import StunProtocol, get_host_addresses, server_reflexive_candidate
from aioice.stun import TransactionError

from gateway import tasks
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.sdp import IceCredentials

log = structlog.get_logger("webrtc")

LOOPBACK = "127.0.0.1"
SOCKET_BUFFER = 1 << 20
"""Bytes asked of the kernel for each socket: a key frame comes in one burst."""

DatagramHandler = Callable[[bytes], None]


class MediaProtocol(StunProtocol):
    """One local candidate's socket: STUN to aioice, everything else to the handler at once (RFC 7983)."""

    def __init__(self, connection: IceConnection) -> None:
        super().__init__(connection)
        self._connection = connection

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        assert isinstance(data, bytes)
        connection = self._connection
        connection.last_received = time.monotonic()
        if data and data[0] > 3:
            connection.on_datagram(data)
            return
        try:
            super().datagram_received(data, addr)
        except Exception as error:  # aioice's parser lets every kind out; a stranger's packet may end nothing
            log.debug("bad STUN packet", error=repr(error))


class IceConnection(Connection):
    """aioice's connection with our candidates, our fast path in, and a direct way out.

    `remote` is None on the side that makes the offer, until it can `meet` who answers. `on_closed` is
    called once when the connection ends by itself: consent expired (RFC 7675).
    """

    def __init__(
        self,
        config: WebRtcConfig,
        remote: IceCredentials | None,
        *,
        on_datagram: DatagramHandler,
        on_closed: Callable[[str], None],
    ) -> None:
        # who made the offer controls, and has the peer's credentials with its answer (RFC 8445, 6.1.1)
        super().__init__(ice_controlling=remote is None or remote.lite)
        if remote is not None:
            self.meet(remote)
        self.on_datagram = on_datagram
        self.last_received = time.monotonic()
        self._config = config
        self._on_closed = on_closed
        self._ending = False
        self._pair: object = None
        self._transport: asyncio.DatagramTransport | None = None
        self._peer: tuple[str, int] = ("", 0)

    def meet(self, remote: IceCredentials) -> None:
        """Take the peer's credentials."""
        self.remote_username = remote.username
        self.remote_password = remote.password
        self.remote_is_lite = remote.lite

    async def get_component_candidates(
        self, component: int, addresses: list[str], timeout: int = 5
    ) -> list[Candidate]:
        """Bind a socket to each address of this machine; called by aioice's gather_candidates."""
        del addresses, timeout
        loop = asyncio.get_running_loop()
        found: list[Candidate] = []
        protocols: list[MediaProtocol] = []
        local = _addresses(loopback=self._config.loopback)
        for preference, address in zip(range(65535, 0, -1), local, strict=False):
            try:
                transport, protocol = await loop.create_datagram_endpoint(
                    lambda: MediaProtocol(self), local_addr=(address, 0)
                )
            except OSError as error:
                log.debug("address not usable", address=address, error=str(error))
                continue
            _enlarge_buffers(transport)
            host, port, *_ = transport.get_extra_info("sockname")
            protocol.local_candidate = Candidate(
                foundation=candidate_foundation("host", "udp", host),
                component=component,
                transport="udp",
                priority=candidate_priority(component, "host", preference),
                host=host,
                port=port,
                type="host",
            )
            protocols.append(protocol)
            found.append(protocol.local_candidate)
        self._protocols += protocols
        if self._config.stun_servers:
            found += await self._reflexive(protocols)
        return found

    async def _reflexive(self, protocols: list[MediaProtocol]) -> list[Candidate]:
        """What the first STUN server sees of each socket, as far as it answers in time."""
        server = self._config.stun_servers[0]
        asking = [
            tasks.spawn(_ask_stun(protocol, server), name="ice stun")
            for protocol in protocols
            if ":" not in protocol.local_candidate.host and protocol.local_candidate.host != LOOPBACK
        ]
        if not asking:
            return []
        done, late = await asyncio.wait(asking, timeout=self._config.gather_timeout)
        await tasks.cancel(*late)
        answers = [answer for task in done if (answer := task.result()) is not None]
        return list({(answer.host, answer.port): answer for answer in answers}.values())

    def send_datagram(self, data: bytes) -> bool:
        """Send on the selected pair at once; False while there is none."""
        pair = self._nominated.get(1)
        if pair is not self._pair:
            # ICE may select another pair at any time; its address is a property that builds a tuple.
            self._pair = pair
            self._transport = pair.protocol.transport if pair is not None else None
            self._peer = pair.remote_addr if pair is not None else ("", 0)
        if self._transport is None:
            return False
        self._transport.sendto(data, self._peer)
        return True

    @property
    def unsent(self) -> int:
        """Bytes that the selected socket could not take yet."""
        transport = self._transport
        if transport is None:
            return 0
        return int(transport.get_write_buffer_size())  # type: ignore[attr-defined]

    @property
    def selected(self) -> str | None:
        pair = self._nominated.get(1)
        return None if pair is None else f"{address(*pair.local_addr)} - {address(*pair.remote_addr)}"

    async def close(self) -> None:
        """Close every socket. aioice calls this itself when consent has expired."""
        asked, self._ending = self._ending, True
        await super().close()
        self._transport = None
        if not asked:
            self._on_closed("the peer stopped answering (ICE consent expired)")

    async def shut(self) -> None:
        """Close on our own account: on_closed is not called."""
        self._ending = True
        await self.close()


def address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _addresses(*, loopback: bool) -> list[str]:
    """This machine's addresses, each once, those that others can reach first."""
    found = dict.fromkeys(get_host_addresses(use_ipv4=True, use_ipv6=True))
    ordered = sorted((one for one in found if one != LOOPBACK), key=lambda one: ":" in one)
    return [*ordered, LOOPBACK] if loopback or not ordered else ordered


def _enlarge_buffers(transport: asyncio.DatagramTransport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)


async def _ask_stun(protocol: MediaProtocol, server: tuple[str, int]) -> Candidate | None:
    try:
        candidate, _ = await server_reflexive_candidate(protocol, server)
    except (OSError, TransactionError) as error:
        log.info("no answer from the STUN server", server=address(*server), error=str(error))
        return None
    return candidate
