"""Orchestrators to talk to: real TLS servers on loopback whose answers a test writes."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.protocol import H2Protocol
from grpclib.server import Server, Stream

from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.capabilities import capabilities
from gateway.orchestrator.client import OrchestratorClient
from harness.insides import abort, port_of
from harness.serving import serving

SENDER = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23"
SIGNATURE = bytes(range(65))


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], ssl.SSLContext]:
    """Makes server contexts with one self-signed certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "orchestrator")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    folder: Path = tmp_path_factory.mktemp("tls")
    pem = folder / "orchestrator.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )

    def context() -> ssl.SSLContext:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(pem)
        return server

    return context


def orchestrator_info(
    url: str = "https://127.0.0.1:8935",
    price: int = 1000,
    *,
    session: str = "s",
    model: str = "comfystream",
    warm: bool = True,
    expiration: int = 4_000_000_000,
) -> livepeer_pb2.OrchestratorInfo:
    """An orchestrator on the paid network at `price` wei per second, its tickets worth 1000 wei."""
    info = livepeer_pb2.OrchestratorInfo(transcoder=url, address=b"\1" * 20)
    info.price_info.pricePerUnit, info.price_info.pixelsPerUnit = price, 27_648_000
    info.ticket_params.recipient, info.ticket_params.recipient_rand_hash = b"\1" * 20, b"\2" * 32
    info.ticket_params.face_value = (1000).to_bytes(2, "big")
    info.ticket_params.win_prob = b"\xff" * 32
    info.auth_token.session_id, info.auth_token.expiration = session, expiration
    info.capabilities.capacities[35] = 1
    info.capabilities.constraints.PerCapability[35].models[model].warm = warm
    return info


@pytest.fixture(name="orchestrator_info", scope="session")
def _orchestrator_info() -> Callable[..., livepeer_pb2.OrchestratorInfo]:
    return orchestrator_info


class BytesCodec(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


class KillableServer(Server):
    """Remembers its connections, so that it can die with them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._protocols: list[H2Protocol] = []

    def _protocol_factory(self) -> H2Protocol:
        protocol = super()._protocol_factory()
        self._protocols.append(protocol)
        return protocol

    def kill_connections(self) -> None:
        for protocol in self._protocols:
            abort(protocol)


class GrpcOrchestrator:
    """Answers GetOrchestrator with what `answer` returns: bytes as they are, an exception as a gRPC error."""

    def __init__(self) -> None:
        self.requests: list[livepeer_pb2.OrchestratorRequest] = []
        self.port = 0
        self.tls = True
        self.answer: Callable[[livepeer_pb2.OrchestratorRequest], Awaitable[bytes]] = self._fresh
        self._server = KillableServer([self], codec=BytesCodec())

    @property
    def addr(self) -> str:
        return f"127.0.0.1:{self.port}" if self.tls else f"http://127.0.0.1:{self.port}"

    async def _fresh(self, _: livepeer_pb2.OrchestratorRequest) -> bytes:
        session = f"session-{len(self.requests)}"
        url = f"https://{self.addr}" if self.tls else self.addr
        return orchestrator_info(url, session=session).SerializeToString()

    async def _get(self, stream: Stream[bytes, bytes]) -> None:
        request = livepeer_pb2.OrchestratorRequest.FromString(await stream.recv_message() or b"")
        self.requests.append(request)
        await stream.send_message(await self.answer(request))

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/net.Orchestrator/GetOrchestrator": Handler(self._get, Cardinality.UNARY_UNARY, bytes, bytes)
        }

    async def start(self, context: ssl.SSLContext | None, port: int = 0) -> None:
        self.tls = context is not None
        if context is not None:
            context.set_alpn_protocols(["h2"])
        await self._server.start("127.0.0.1", port, ssl=context)
        self.port = port_of(self._server)

    async def stop(self) -> None:
        """Die as a killed process does: connections and all."""
        self._server.close()
        self._server.kill_connections()
        await self._server.wait_closed()


@pytest_asyncio.fixture
async def grpc_orchestrator(tls: Callable[[], ssl.SSLContext]) -> AsyncIterator[Callable[[], Any]]:
    """Starts scripted gRPC orchestrators."""
    running: list[GrpcOrchestrator] = []

    async def start(*, plain: bool = False) -> GrpcOrchestrator:
        orchestrator = GrpcOrchestrator()
        await orchestrator.start(None if plain else tls())
        running.append(orchestrator)
        return orchestrator

    yield start
    await asyncio.gather(*(orchestrator.stop() for orchestrator in running))


class HttpOrchestrator:
    """Answers every POST with `answer`, and keeps what came."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[tuple[str, dict[str, str], bytes]] = []
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | web.Response = web.Response()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.calls.append((request.path, dict(request.headers), await request.read()))
        return self.answer if isinstance(self.answer, web.StreamResponse) else await self.answer(request)


@pytest_asyncio.fixture
async def http_orchestrator(tls: Callable[[], ssl.SSLContext]) -> AsyncIterator[HttpOrchestrator]:
    orchestrator = HttpOrchestrator()
    route = web.post("/{path:.*}", orchestrator.handle)
    async with serving(route, tls=tls(), max_field_size=64 * 1024) as orchestrator.url:
        yield orchestrator


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest_asyncio.fixture
async def client() -> AsyncIterator[OrchestratorClient]:
    client = OrchestratorClient(address=SENDER, signature=SIGNATURE, capabilities=capabilities("comfystream"))
    yield client
    await client.close()
