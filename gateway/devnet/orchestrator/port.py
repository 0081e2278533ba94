"""One TLS port for gRPC and HTTP, as in go-livepeer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection
from typing import Any, cast

from aiohttp import web
from grpclib.protocol import H2Protocol
from grpclib.server import Server
from typing_extensions import override

from gateway.devnet.orchestrator.tls import server_context

ALPN = ["http/1.1", "h2"]
"""Protocols by preference. HTTP/1.1 first: clients with both, browsers and curl, want HTTP."""


class SharedPort(Server):
    """grpclib's server, which passes connections without HTTP/2 to `http`."""

    def __init__(self, services: Collection[Any], http: web.Server) -> None:
        super().__init__(services)
        self._http = http

    @classmethod
    async def listen(
        cls, services: Collection[Any], http: web.Server, host: str, port: int
    ) -> tuple[SharedPort, str]:
        """Listen; returns the server and its `host:port`. Port 0 takes a free one."""
        shared = cls(services, http)
        context = await asyncio.to_thread(server_context, host, alpn=ALPN)
        # bound here, because grpclib does not tell its port
        listening = socket.create_server((host, port))
        await shared.start(sock=listening, ssl=context)
        return shared, "{}:{}".format(*listening.getsockname()[:2])

    @override
    def _protocol_factory(self) -> H2Protocol:
        return cast(H2Protocol, _Arrival(super()._protocol_factory, self._http))


class _Arrival(asyncio.Protocol):
    """The protocol of a connection until its handshake is done; then gRPC or HTTP replaces it."""

    def __init__(self, grpc: Callable[[], asyncio.Protocol], http: Callable[[], asyncio.Protocol]) -> None:
        self._grpc = grpc
        self._http = http

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tls = transport.get_extra_info("ssl_object")
        protocol = self._grpc() if tls.selected_alpn_protocol() == "h2" else self._http()
        cast(asyncio.Transport, transport).set_protocol(protocol)
        protocol.connection_made(transport)
