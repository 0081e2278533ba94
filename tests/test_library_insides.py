"""What the gateway uses or overrides of libraries, and is not documented, is listed here, there, and called.

docs/decisions/0011-library-insides.md says why. `tests/library_uses.py` finds all of it in the code.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import tomllib
from dataclasses import replace
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aioice
import aioice.ice
import aioice.stun
import aiortc.rtcdtlstransport
import grpclib.client
import grpclib.const
import grpclib.protocol
import grpclib.server
import h2.connection
import pylibsrtp
import pytest
from aiohttp import web

from gateway.aio import http_client
from gateway.aio.event_loop import EventLoop, run
from gateway.aio.http_client import Connector
from gateway.aio.tasks import TaskGroup
from gateway.comfystream import channels
from gateway.http.connections import ConnectionLimits, Connections, HttpConnection, Site
from gateway.orchestrator import grpc
from gateway.orchestrator.urls import GrpcTarget
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.ice import IceConnection
from gateway.webrtc.ice_settings import IceSettings
from gateway.webrtc.sdp import IceCredentials
from gateway.webrtc.srtp import SrtpSession
from gateway.webrtc.udp import MediaProtocol
from gateway.webrtc.udp_mux import MuxedProtocol, UdpMux
from harness.ice import prepare_clients
from harness.insides import abort, port_of
from harness.waiting import eventually, within
from tests.library_uses import PRIVATE, names_read_in, overrides, private_names

ROOT = Path(__file__).parents[1]

PRIVATE_NAMES = {
    "gateway/aio/http_client.py": {
        "aiohttp": {"_create_direct_connection", "_factory", "_get_ssl_context", "_loop"}
    },
    "gateway/aio/tasks.py": {"asyncio": {"_parent_task"}},
    "gateway/comfystream/channels.py": {"aiortc": {"_handle_data"}},
    "gateway/devnet/comfystream/encoder.py": {"aiortc": {"_encode_frame"}},
    "gateway/devnet/orchestrator/port.py": {"grpclib": {"_protocol_factory"}},
    "gateway/http/connections.py": {
        "aiohttp": {"_backlog", "_request_count", "_runner", "_server", "_ssl_context", "_waiter"}
    },
    "gateway/orchestrator/grpc.py": {
        "grpclib": {
            *("_config", "_connected", "_h2_config", "_host", "_loop", "_port", "_protocol"),
            *("_protocol_factory", "_ssl", "_stream", "_transport", "_wrapper"),
        }
    },
    "gateway/webrtc/dtls.py": {"aiortc": {"_create_ssl_context"}},
    "gateway/webrtc/ice.py": {
        "aioice": {
            *("_check_list", "_nominated", "_pair_remote_candidate", "_protocols", "_query_consent_task"),
            "_remote_candidates",
        }
    },
    "gateway/webrtc/srtp.py": {"pylibsrtp": {"_binding", "_srtp"}},
}
"""By file and library. What is documented in spite of its name is not among them."""
DOCUMENTED = {"_current_frames", "_exit", "_replace"}
NOT_DOCUMENTED: list[tuple[Any, str]] = [
    (aioice.Connection, "build_request"),
    (aioice.ice, "CandidatePair"),
    (aioice.ice, "relayed_candidate"),
    (aioice.ice, "server_reflexive_candidate"),
    (aioice.stun, "parse_message"),
    (aiortc.rtcdtlstransport, "SRTP_PROFILES"),
    (aiortc.rtcdtlstransport, "X509_DIGEST_ALGORITHMS"),
    (aiortc.rtcdtlstransport, "certificate_digest"),
    (h2.connection.H2Connection, "MAX_CLOSED_STREAMS"),
    (pylibsrtp._binding.lib, "srtp_protect"),
    (pylibsrtp._binding.lib, "srtp_unprotect"),
]
"""In use without an override, and named as if they were public."""
Override = tuple[type, str]
BY_ICE: set[Override] = {
    *((IceConnection, name) for name in ("get_component_candidates", "query_consent", "close")),
    *((IceConnection, name) for name in ("check_incoming", "check_complete", "_pair_remote_candidate")),
    *((MediaProtocol, name) for name in ("datagram_received", "send_stun", "request", "close")),
    (MuxedProtocol, "send_stun"),
}
BY_GRPC: set[Override] = {
    *((grpc._Channel, name) for name in ("_create_connection", "_protocol_factory")),
    *((grpc._Http2Protocol, name) for name in ("connection_made", "data_received", "connection_lost")),
    (grpc._LostHandler, "close"),
    (grpc.PlainBytes, "encode"),
}
BY_HTTP: set[Override] = {
    (EventLoop, "create_connection"),
    *((Connector, name) for name in ("connect", "_create_direct_connection", "_get_ssl_context")),
    *((http_client._Protocol, name) for name in ("data_received", "feed_data")),
    *((HttpConnection, name) for name in ("connection_made", "connection_lost", "data_received")),
    *((HttpConnection, name) for name in ("pause_writing", "resume_writing", "handle_error")),
    (Site, "start"),
    (TaskGroup, "__aexit__"),
}
OURS: set[Override] = {
    (IceConnection, "add_remote_candidate"),
    (SrtpSession, "unprotect"),
    (grpc.PlainBytes, "decode"),
    (Site, "name"),
}
"""Called by the gateway itself, or only there because a base class wants it."""


def test_each_private_name_that_is_used_is_listed_here() -> None:
    found = {path: names - DOCUMENTED for path, names in private_names().items()}
    listed = {path: set().union(*libraries.values()) for path, libraries in PRIVATE_NAMES.items()}
    assert {path: names for path, names in found.items() if names} == listed


def test_the_libraries_read_each_private_name_themselves() -> None:
    for libraries in PRIVATE_NAMES.values():
        for library, names in libraries.items():
            assert names - {"_binding"} <= names_read_in(library), library
    assert {name for name in vars(channels._Carrier) if PRIVATE.fullmatch(name)} <= names_read_in("aiortc")


@pytest.mark.parametrize(
    ("owner", "name"), NOT_DOCUMENTED, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_the_name_is_there(owner: Any, name: str) -> None:
    assert hasattr(owner, name)


def test_each_override_is_listed_here() -> None:
    assert overrides() == BY_ICE | BY_GRPC | BY_HTTP | OURS


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> set[Override]:
    """The overrides that were called; those that others override in their turn too."""
    found: set[Override] = set()

    def watch(owner: type, name: str) -> None:
        really = getattr(owner, name)

        @wraps(really)
        def call(*arguments: Any, **options: Any) -> Any:
            found.add((owner, name))
            return really(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    for owner, name in BY_ICE | BY_GRPC | BY_HTTP:
        watch(owner, name)
    return found


@pytest.mark.asyncio
async def test_aioice_calls_its_overrides(called: set[Override]) -> None:
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
    assert called >= BY_ICE


class GrpcServer(grpclib.server.Server):
    """Answers GetOrchestrator with what it was asked, and keeps its connections."""

    def __init__(self) -> None:
        super().__init__([self], codec=grpc.PlainBytes())
        self.connections: list[grpclib.protocol.H2Protocol] = []

    def _protocol_factory(self) -> grpclib.protocol.H2Protocol:
        self.connections.append(super()._protocol_factory())
        return self.connections[-1]

    def __mapping__(self) -> dict[str, Any]:
        handler = grpclib.const.Handler(_echo, grpclib.const.Cardinality.UNARY_UNARY, bytes, bytes)
        return {grpc.GET_ORCHESTRATOR: handler}


async def _echo(stream: grpclib.server.Stream[bytes, bytes]) -> None:
    await stream.send_message(await stream.recv_message() or b"")


@pytest.mark.asyncio
async def test_grpclib_calls_its_overrides(called: set[Override]) -> None:
    server, lost = GrpcServer(), list[str]()
    await server.start("127.0.0.1", 0)
    target = GrpcTarget("127.0.0.1", port_of(server), tls=False)
    caller = grpc.GrpcCaller(ssl.create_default_context(), lost.append)
    assert (await within(caller.ask("o", target, b"one", 5)))[0] == b"one"
    (connection,) = server.connections
    connection.connection._transport.write(b"\0\0\0\x42\0\0\0\0\0")  # a frame of a type that nobody knows
    assert (await within(caller.ask("o", target, b"two", 5)))[0] == b"two"
    assert server.connections == [connection], "the frame was passed over"
    abort(connection)
    await eventually(lambda: lost == ["o"])
    assert (await within(caller.ask("o", target, b"three", 5)))[0] == b"three"
    caller.close()
    await eventually(lambda: all(one.connection.is_closing() for one in server.connections))
    server.close()
    await server.wait_closed()
    assert called >= BY_GRPC


@pytest.mark.asyncio
async def test_a_call_reads_what_grpclib_keeps_of_a_stream() -> None:
    """`_wrapper` and `_stream` are there while a call is open, and are what its end goes through."""
    server = GrpcServer()
    await server.start("127.0.0.1", 0)
    channel = grpclib.client.Channel("127.0.0.1", port_of(server), codec=grpc.PlainBytes())
    call = channel.request(grpc.GET_ORCHESTRATOR, grpclib.const.Cardinality.UNARY_UNARY, bytes, bytes)
    async with call:
        await call.send_message(b"hello", end=True)
        await call.recv_initial_metadata()
        with call._wrapper:
            assert await within(call._stream.recv_data(grpc.FRAME_HEADER)) == b"\0\0\0\0\x05"
            assert await within(call._stream.recv_data(5)) == b"hello"
    channel.close()
    server.close()
    await server.wait_closed()


def test_aiohttp_and_uvloop_call_their_overrides(called: set[Override]) -> None:
    run(within(_use_http()))
    assert called >= BY_HTTP


async def _use_http() -> None:
    """A request and its answer, a client that reads late, and one that speaks no HTTP."""
    connections = Connections(ConnectionLimits(0, 0, 10.0))
    idle = list[bool]()

    async def answer(request: web.Request) -> web.Response:
        idle.extend(one.idle for one in connections)
        return web.Response(body=bytes(int(request.query["size"])))

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await _ask(runner, connections, idle)
    finally:
        await runner.cleanup()


async def _ask(runner: web.AppRunner, connections: Connections, idle: list[bool]) -> None:
    await Site(runner, ("127.0.0.1", 0), connections).start()
    port = runner.addresses[0][1]
    async with TaskGroup() as group, http_client.client_session(None) as http:
        group.create_task(asyncio.sleep(0))
        async with http.get(f"http://127.0.0.1:{port}/?size=3") as response:
            assert await response.read() == bytes(3)
        assert idle == [False]
        await eventually(lambda: [one.idle for one in connections] == [True])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /?size=20000000 HTTP/1.1\r\nHost: a\r\n\r\n")
    await eventually(lambda: len(idle) == 2)
    await asyncio.sleep(0.1)  # for the sockets between to fill
    await reader.readuntil(b"\r\n\r\n")
    assert len(await reader.readexactly(20_000_000)) == 20_000_000
    writer.write(b"no HTTP\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()


def test_what_has_undocumented_parts_in_use_is_bounded_above_and_installed_within() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for library in ("aiohttp", "aioice", "aiortc", "grpclib", "h2", "pylibsrtp", "uvloop"):
        (line,) = [one for one in declared if one.startswith(f"{library}>=")]
        below = line.partition(",<")[2].partition(";")[0]
        assert below, f"{library} has no upper bound"
        assert numbers(version(library)) < numbers(below)


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(".") if part.isdigit()]
