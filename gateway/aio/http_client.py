"""HTTP clients: where their requests may lead, and what answers may do.

All that the gateway asks comes from here. No answer is decompressed: none was asked for in another form than
its own, and a megabyte may hold a gigabyte.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from contextvars import ContextVar
from ipaddress import ip_address
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.resolver import ThreadedResolver
from typing_extensions import override

from gateway.aio.certificate_pins import CertificateChanged, CertificatePins
from gateway.aio.client_tls import client_context
from gateway.aio.inside import Ip, LeadsInside, Reach, is_inside, leads_inside, literal
from gateway.aio.pace import Pace

MAX_INTERIM = 10
"""Limit of interim answers (`100 Continue` and the like) in a second."""
PIECE = 16_384
"""Bytes parsed at once: so many interim answers as fit into one."""


_tls: ContextVar[ssl.SSLContext] = ContextVar("tls")
"""With which a connection is being made."""


class UnwantedEncoding(aiohttp.ClientPayloadError):
    """The answer is compressed, without having been asked to."""


class Connector(aiohttp.TCPConnector):
    """Connects to the addresses that `reach` allows; None: to any, as the operator names all of them.

    Names are checked as they are resolved for a connection, each time. Connections are shared by who may
    reach the same: each `reach` needs a connector of its own. With `pins`, a certificate that does not verify
    is taken where these allow it.
    """

    def __init__(self, reach: Reach | None, pins: CertificatePins | None = None, **options: Any) -> None:
        resolver = None if reach is None else _Resolver(reach)
        super().__init__(resolver=resolver, use_dns_cache=reach is None, **options)
        self._reach = reach
        self._pins = pins
        self._ways: set[bool] = set()
        self._factory: Any = functools.partial(_Protocol, loop=self._loop)

    @property
    def only_inside(self) -> bool:
        """Whether all connections so far went to addresses inside, and there was one."""
        return self._ways == {True}

    @override
    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> Any:
        if self._reach is not None:
            try:
                _check_literal(req.url.host or "", self._reach)
            except LeadsInside as error:
                raise aiohttp.ClientConnectorError(req.connection_key, error) from error
        connection = await super().connect(req, traces, timeout)
        address = peer_address(connection.transport)
        if address is not None:
            self._ways.add(is_inside(address))
        return connection

    @override
    async def _create_direct_connection(
        self, req: aiohttp.ClientRequest, *args: Any, **options: Any
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        pins = self._pins
        if pins is None or not req.is_ssl():
            return await super()._create_direct_connection(req, *args, **options)
        server = ((req.url.raw_host or "").lower(), req.port or 443)
        if not pins.is_pinned(server):
            try:
                made = await self._connect(client_context(verify=True), req, *args, **options)
            except aiohttp.ClientConnectorCertificateError:
                if pins.must_verify(server):
                    raise
            else:
                pins.verified(server)
                return made
        transport, protocol = await self._connect(client_context(verify=False), req, *args, **options)
        try:
            pins.check(server, transport.get_extra_info("ssl_object").getpeercert(binary_form=True))
        except CertificateChanged as error:
            transport.abort()
            raise aiohttp.ClientConnectorCertificateError(req.connection_key, error) from error
        return transport, protocol

    async def _connect(
        self, tls: ssl.SSLContext, *args: Any, **options: Any
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        token = _tls.set(tls)
        try:
            return await super()._create_direct_connection(*args, **options)
        finally:
            _tls.reset(token)

    @override
    def _get_ssl_context(self, req: aiohttp.ClientRequest) -> ssl.SSLContext | None:
        return _tls.get() if req.is_ssl() and self._pins is not None else super()._get_ssl_context(req)


class _Resolver(AbstractResolver):
    """Leaves out what may not be connected to. Raises LeadsInside where nothing is left."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._system = ThreadedResolver()

    @override
    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        found = await self._system.resolve(host, port, family)
        allowed = []
        for one in found:
            address = ip_address(one["host"].partition("%")[0])
            if self._reach.allows(host.rstrip("."), address):
                allowed.append(one)
        if found and not allowed:
            raise leads_inside(host, ip_address(found[0]["host"].partition("%")[0]))
        return allowed

    @override
    async def close(self) -> None:
        await self._system.close()


class _Protocol(ResponseHandler):
    """Closes the connection of a server that sends interim answers without end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._interim = Pace(MAX_INTERIM)

    @override
    def data_received(self, data: bytes) -> None:
        for begin in range(0, len(data), PIECE) or (0,):
            if self.transport is None or self.transport.is_closing():
                return
            super().data_received(data[begin : begin + PIECE])

    @override
    def feed_data(self, data: Any, size: int = 0) -> None:
        code = data[0].code
        if 100 <= code < 200 and code != 101 and not self._interim.count():
            if self.exception() is None:
                self.set_exception(aiohttp.ClientConnectionError("interim answers without end"))
            if self.transport is not None:
                self.transport.abort()
            return
        super().feed_data(data, size)


async def _as_it_is(request: aiohttp.ClientRequest, handler: Any) -> aiohttp.ClientResponse:
    response: aiohttp.ClientResponse = await handler(request)
    encodings = response.headers.getall("Content-Encoding", [])
    if any(one.strip().lower() not in ("", "identity") for one in encodings):
        response.close()
        raise UnwantedEncoding("its answer is compressed, without being asked to")
    return response


def client_session(
    reach: Reach | None,
    *,
    tls: ssl.SSLContext | bool = True,
    pins: CertificatePins | None = None,
    timeout: aiohttp.ClientTimeout | None = None,
) -> aiohttp.ClientSession:
    """A session whose requests lead where `reach` allows, by default without a limit of time.

    It has no limit on connections: a stream holds many long requests open. `pins` stand before `tls`.
    """
    return aiohttp.ClientSession(
        connector=Connector(reach, pins, limit=0, ssl=tls),
        timeout=timeout or aiohttp.ClientTimeout(total=None, sock_connect=5),
        headers={"Accept-Encoding": "identity"},
        auto_decompress=False,
        middlewares=(_as_it_is,),
    )


class ClientSessions:
    """One session for each reach, made when it is first needed, closed with the others."""

    def __init__(self, tls: ssl.SSLContext, pins: CertificatePins | None = None) -> None:
        self._tls = tls
        self._pins = pins
        self._sessions: dict[Reach, aiohttp.ClientSession] = {}

    def get(self, reach: Reach) -> aiohttp.ClientSession:
        session = self._sessions.get(reach)
        if session is None:
            session = self._sessions[reach] = client_session(reach, tls=self._tls, pins=self._pins)
        return session

    async def close(self) -> None:
        while self._sessions:
            await self._sessions.popitem()[1].close()


def only_inside(session: aiohttp.ClientSession) -> bool:
    """Whether all connections of one of these sessions so far went to addresses inside, and there was one."""
    return isinstance(session.connector, Connector) and session.connector.only_inside


def peer_address(transport: asyncio.BaseTransport | None) -> Ip | None:
    """The IP address at the other end of a connection."""
    name = None if transport is None else transport.get_extra_info("peername")
    return literal(str(name[0]).partition("%")[0]) if isinstance(name, tuple) else None


def _check_literal(host: str, reach: Reach) -> None:
    """aiohttp does not resolve what looks like an address."""
    address = literal(host.partition("%")[0])
    if address is not None:
        reach.check(host, [address])
    elif ":" in host or host.replace(".", "").isdigit():
        raise LeadsInside(f"{host} is not an address")
