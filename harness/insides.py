"""What tests and benchmarks need of libraries and is not public there: in this file alone.

Ruff's SLF001 holds the other files to what is public. Objects are Any where a library has no types.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from aioice import Connection
from aioice.ice import CandidatePair, StunProtocol
from aiortc import RTCPeerConnection, RTCRtpTransceiver
from aiortc.codecs.h264 import H264Encoder
from grpclib.protocol import H2Protocol
from grpclib.server import Server
from h2.connection import H2Connection


def ice_of(peer: RTCPeerConnection) -> Connection:
    """The ICE connection of a client with one transport."""
    dtls = peer.getTransceivers()[0].sender.transport
    connection: Connection = dtls.transport._connection
    return connection


def sockets_of(connection: Connection) -> list[StunProtocol]:
    """The protocols of an ICE connection's sockets, and of its relays; the list is the connection's own."""
    protocols: list[StunProtocol] = connection._protocols
    return protocols


def selected_pair(connection: Connection) -> CandidatePair | None:
    """The pair that an ICE connection sends on; None before it is connected, and after its end."""
    return connection._nominated.get(1)


def checked_pairs(connection: Connection) -> list[CandidatePair]:
    """The pairs that an ICE connection checks."""
    return list(connection._check_list)


def protect_rtp(peer: RTCPeerConnection) -> Callable[[bytes], bytes]:
    """What makes SRTP of a client's RTP packets."""
    protect: Callable[[bytes], bytes] = peer.getTransceivers()[0].sender.transport._tx_srtp.protect
    return protect


async def send_rtp(peer: RTCPeerConnection, packet: bytes) -> None:
    """Send one RTP packet on a client's connection."""
    await peer.getSenders()[0].transport._send_rtp(packet)


def on_key_frame_request(transceiver: RTCRtpTransceiver, call: Callable[[], None]) -> None:
    """Have requests for key frames go to `call` in the place of the encoder."""
    transceiver.sender._send_keyframe = call


def request_key_frame(transceiver: RTCRtpTransceiver, ssrc: int) -> Awaitable[None]:
    """Send a PLI for an SSRC."""
    return transceiver.receiver._send_rtcp_pli(ssrc)


def packetized(annex_b: bytes) -> list[bytes]:
    """RTP payloads of an access unit, as aiortc makes them."""
    payloads: list[bytes] = H264Encoder._packetize(H264Encoder._split_bitstream(annex_b))
    return payloads


def connections_in_use(session: aiohttp.ClientSession) -> int:
    """How many connections of a session have a request."""
    return 0 if session.connector is None else len(session.connector._acquired)


def client_protocol(connector: aiohttp.BaseConnector) -> Any:
    """The protocol of a new connection."""
    return connector._factory()


def has_unread(protocol: Any) -> bool:
    """Whether a client's protocol has parsed messages that nobody has read."""
    return bool(protocol._buffer)


def replace_tls(connection: Any, by: object) -> None:
    """Put another object in the place of OpenSSL's under `ssl.SSLObject`."""
    connection._sslobj = by


def port_of(server: Server) -> int:
    """The TCP port that a gRPC server listens on."""
    assert server._server is not None
    return int(server._server.sockets[0].getsockname()[1])


def abort(protocol: H2Protocol) -> None:
    """Cut an HTTP/2 connection as a killed process does, where it is open."""
    if hasattr(protocol, "connection") and not protocol.connection.is_closing():
        transport: asyncio.Transport = protocol.connection._transport
        transport.abort()


def remembered_streams(connection: H2Connection) -> int:
    """How many streams that have ended a connection remembers."""
    return len(connection._closed_streams)
