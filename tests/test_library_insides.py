"""The parts of libraries that are not documented, and that the gateway uses or overrides, are there.

docs/decisions/0011-library-insides.md says why. A name that is gone is found here at once; what happens where
an override is not called any more is tested beside each module.
"""

from __future__ import annotations

import asyncio
import socket
import tomllib
from collections import Counter
from dataclasses import replace
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web_protocol
import aioice
import aioice.ice
import aioice.stun
import aiortc.codecs.h264
import aiortc.rtcdtlstransport
import aiortc.rtcsctptransport
import grpclib.client
import grpclib.protocol
import h2.connection
import pylibsrtp
import pytest
import uvloop
from aiohttp.client_proto import ResponseHandler
from aiortc import RTCCertificate

from gateway.aio.event_loop import EventLoop
from gateway.aio.tasks import TaskGroup
from gateway.orchestrator import grpc
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.ice import IceConnection
from gateway.webrtc.ice_settings import IceSettings
from gateway.webrtc.sdp import IceCredentials
from gateway.webrtc.srtp import SrtpSession
from gateway.webrtc.udp_mux import MuxedProtocol, UdpMux
from harness.ice import prepare_clients
from harness.waiting import eventually, within

ROOT = Path(__file__).parents[1]

NAMES: list[tuple[Any, str]] = [
    (aiohttp.web_protocol.RequestHandler, "_waiter"),
    (aiohttp.web_protocol.RequestHandler, "_request_count"),
    (aiohttp.TCPConnector, "_create_direct_connection"),
    (aiohttp.TCPConnector, "_get_ssl_context"),
    (aioice.Connection, "get_component_candidates"),
    (aioice.Connection, "query_consent"),
    (aioice.Connection, "build_request"),
    (aioice.Connection, "check_incoming"),
    (aioice.Connection, "check_complete"),
    (aioice.Connection, "_pair_remote_candidate"),
    (aioice.ice, "CandidatePair"),
    (aioice.Connection, "close"),
    (aioice.ice, "relayed_candidate"),
    (aioice.ice, "server_reflexive_candidate"),
    (aioice.ice.StunProtocol, "datagram_received"),
    (aioice.ice.StunProtocol, "request"),
    (aioice.ice.StunProtocol, "send_stun"),
    (aioice.ice.StunProtocol, "close"),
    (aioice.stun, "parse_message"),
    (RTCCertificate, "_create_ssl_context"),
    (aiortc.rtcdtlstransport, "SRTP_PROFILES"),
    (aiortc.rtcdtlstransport, "X509_DIGEST_ALGORITHMS"),
    (aiortc.rtcdtlstransport, "certificate_digest"),
    (aiortc.rtcsctptransport.RTCSctpTransport, "_handle_data"),
    (aiortc.codecs.h264.H264Encoder, "_encode_frame"),
    (aiortc.codecs, "H264Encoder"),
    (pylibsrtp._binding.lib, "srtp_protect"),
    (pylibsrtp._binding.lib, "srtp_unprotect"),
    (aiohttp.TCPConnector, "connect"),
    (ResponseHandler, "data_received"),
    (ResponseHandler, "feed_data"),
    (grpclib.client.Channel, "_create_connection"),
    (grpclib.client.Channel, "_protocol_factory"),
    (grpclib.client.Channel, "_connected"),
    (grpclib.client.Handler, "close"),
    (grpclib.protocol.H2Protocol, "connection_made"),
    (grpclib.protocol.H2Protocol, "data_received"),
    (grpclib.protocol.H2Protocol, "connection_lost"),
    (h2.connection.H2Connection, "MAX_CLOSED_STREAMS"),
    (uvloop.Loop, "create_connection"),
]


@pytest.mark.parametrize(("owner", "name"), NAMES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_the_name_is_there(owner: Any, name: str) -> None:
    assert hasattr(owner, name)


@pytest.mark.asyncio
async def test_objects_have_the_attributes_that_are_read_or_set() -> None:
    connection = aioice.Connection(ice_controlling=True)
    protocol = aioice.ice.StunProtocol(connection)
    group = asyncio.TaskGroup()
    channel = grpclib.client.Channel()
    session = SrtpSession()
    for owner, names in {
        connection: ("_nominated", "_protocols", "_check_list", "_remote_candidates", "_query_consent_task"),
        protocol: ("transactions",),
        group: ("_parent_task",),
        channel: ("_protocol", "_config", "_h2_config"),
        session: ("_srtp",),
    }.items():
        assert all(hasattr(owner, name) for name in names), type(owner)
    assert h2.connection.H2Connection.MAX_CLOSED_STREAMS == grpc.CLOSED_STREAMS
    channel.close()


def test_each_class_overrides_the_librarys_own() -> None:
    assert issubclass(EventLoop, uvloop.Loop)
    assert issubclass(TaskGroup, asyncio.TaskGroup)
    assert issubclass(IceConnection, aioice.Connection)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each override of aioice's methods was called."""
    count: Counter[str] = Counter()

    def watch(owner: type, name: str) -> None:
        really = getattr(owner, name)

        @wraps(really)
        def call(*arguments: Any, **options: Any) -> Any:
            count[name] += 1
            return really(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    for name in ("get_component_candidates", "query_consent", "close", "check_incoming", "check_complete"):
        watch(IceConnection, name)
    for name in ("send_stun", "datagram_received"):
        watch(MuxedProtocol, name)
    return count


@pytest.mark.asyncio
async def test_aioice_calls_its_overrides(called: Counter[str]) -> None:
    prepare_clients()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mux = await UdpMux.open(lambda: ["127.0.0.1"], port)
    peer, came = aioice.Connection(ice_controlling=True), list[bytes]()
    own = IceConnection(
        replace(WebRtcConfig(), ice=IceSettings(mux_port=port), mux=mux),
        IceCredentials(peer.local_username, peer.local_password, False),
        on_datagram=came.append,
        on_closed=lambda why: None,
    )
    peer.remote_username, peer.remote_password = own.local_username, own.local_password
    for one, other in ((peer, own), (own, peer)):
        await one.gather_candidates()
        for candidate in one.local_candidates:
            await other.add_remote_candidate(candidate)
    await within(asyncio.gather(peer.connect(), own.connect()))
    await peer.send(b"\x80media")
    await eventually(lambda: came == [b"\x80media"])
    consent = own._query_consent_task
    assert own._nominated[1].protocol in own._protocols
    assert own._check_list
    assert consent is not None
    assert not consent.done()
    await within(own.shut())
    await within(peer.close())
    mux.close()
    assert consent.done()
    assert set(called) == {
        "check_complete",
        "check_incoming",
        "get_component_candidates",
        "query_consent",
        "close",
        "send_stun",
        "datagram_received",
    }


def test_what_has_undocumented_parts_in_use_is_bounded_above_and_installed_within() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for library in ("aiohttp", "aioice", "aiortc", "grpclib", "h2", "pylibsrtp", "uvloop"):
        (line,) = [one for one in declared if one.startswith(f"{library}>=")]
        below = line.partition(",<")[2].partition(";")[0]
        assert below, f"{library} has no upper bound"
        assert numbers(version(library)) < numbers(below)


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(".") if part.isdigit()]
