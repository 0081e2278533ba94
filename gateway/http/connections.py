"""TCP connections of a server: how many there may be, and how long they may be idle or stuck."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestHandler
from typing_extensions import override

from gateway.http.limits import client_key
from gateway.http.problem import Problem, ProblemCode

MAX_HEAD = 64 * 1024
"""Limit in bytes of a request's line and headers together."""
HANDSHAKE_TIMEOUT = 10.0
"""Time limit in seconds for TLS."""
HEADERS = {"Server": "livepeer-gateway", "X-Content-Type-Options": "nosniff"}
"""Of every answer; without versions."""


@dataclass(frozen=True)
class ConnectionLimits:
    """The maximum of each flag (0: no limit), and seconds."""

    total: int
    per_address: int
    idle_timeout: float
    """For a request's head to arrive, for the next request, and for a client to read its answer."""

    @property
    def most(self) -> int:
        """Connections in all: no more than half of the descriptors that this process may open."""
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        half = descriptors // 2 if descriptors != resource.RLIM_INFINITY else self.total
        return min(self.total or half, half)


class Connections:
    """The open connections of one server.

    Where there are too many, the one that has been idle for longest is closed, of the same address where that
    one has too many. So a server with many idle connections still answers. `shared` says whether an address
    is a proxy's, which many clients come by.
    """

    def __init__(
        self, limits: ConnectionLimits, shared: Callable[[str], bool] = lambda address: False
    ) -> None:
        self.limits = limits
        self._shared = shared
        self._open: dict[HttpConnection, str | None] = {}
        """With their addresses, None of a proxy; those with a new request last."""
        self._count: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[HttpConnection]:
        return iter(list(self._open))

    def opened(self, connection: HttpConnection, address: str) -> bool:
        """Count a new connection. False where there is no room for it."""
        key = None if self._shared(address) else client_key(address)
        full = key is not None and 0 < self.limits.per_address <= self._count[key]
        if full and not self._close_idle(key):
            return False
        if 0 < self.limits.most <= len(self._open) and not self._close_idle(None):
            return False
        self._open[connection] = key
        if key is not None:
            self._count[key] += 1
        return True

    def used(self, connection: HttpConnection) -> None:
        """It has a request."""
        if connection in self._open:
            self._open[connection] = self._open.pop(connection)

    def closed(self, connection: HttpConnection) -> None:
        if connection not in self._open:
            return
        key = self._open.pop(connection)
        if key is not None:
            self._count[key] -= 1
            if not self._count[key]:
                del self._count[key]

    def _close_idle(self, key: str | None) -> bool:
        """Close the one that has been idle for longest, of the address `key` where that is given."""
        for connection, other in self._open.items():
            if connection.idle and key in (None, other):
                self.closed(connection)
                connection.force_close()
                return True
        return False


class HttpConnection(RequestHandler):
    """One client's connection, with limits on its requests' heads and on its patience."""

    def __init__(self, server: web.Server, connections: Connections, **options: Any) -> None:
        super().__init__(server, keepalive_timeout=connections.limits.idle_timeout, **options)
        self._connections = connections
        self._head = 0
        """Bytes of a head that is not complete."""
        self._stuck: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether it waits for a request, or for the end of one's head."""
        waits = self._waiter is not None and not self._waiter.done()
        return waits or self._request_count == 0

    def in_use(self) -> None:
        """A request has come on it."""
        self._connections.used(self)

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername") or ("",)
        if not self._connections.opened(self, str(peer[0])):
            self.force_close()

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.closed(self)
        self._stop_timer()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.idle:
            self._head = 0
            return
        self._head += len(data)
        if self._head > MAX_HEAD and self.transport is not None:
            lines = ("HTTP/1.1 431 Request Header Fields Too Large", "Connection: close", "Content-Length: 0")
            more = (f"{name}: {value}" for name, value in HEADERS.items())
            self.transport.write("\r\n".join((*lines, *more, "", "")).encode())
            self.force_close()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_timer()
        self._stuck = asyncio.get_running_loop().call_later(self.keepalive_timeout, self._give_up)

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_timer()

    def _give_up(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _stop_timer(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, and errors outside of the application, in the form of its own refusals."""
        super().handle_error(request, status, exc, message)
        code = ProblemCode.BAD_HTTP if status < 500 else ProblemCode.INTERNAL_ERROR
        detail = "this is no HTTP request that can be read" if status < 500 else "the gateway failed"
        response = Problem(status, code, detail, headers=HEADERS).response()
        response.force_close()
        return response


@web.middleware
async def bounded_head(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse heads that are too large though they came at once, and note that the connection is in use."""
    if isinstance(request.protocol, HttpConnection):
        request.protocol.in_use()
    if sum(len(name) + len(value) + 4 for name, value in request.raw_headers) > MAX_HEAD:
        detail = f"the headers have more than {MAX_HEAD} bytes: send less"
        return Problem(431, ProblemCode.TOO_LARGE, detail).response()
    return await handler(request)


class Site(web.BaseSite):
    """Listens on one address; its connections are `HttpConnection`s."""

    def __init__(
        self,
        runner: web.AppRunner,
        address: tuple[str, int],
        connections: Connections,
        ssl_context: Any = None,
        *,
        reuse_port: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(runner, ssl_context=ssl_context)
        self._reuse_port = reuse_port
        self._address = address
        self._connections = connections
        self._options = options

    @property
    @override
    def name(self) -> str:
        return "{}:{}".format(*self._address)

    @override
    async def start(self) -> None:
        await super().start()
        server, loop = self._runner.server, asyncio.get_running_loop()
        assert server is not None
        host, port = self._address
        self._server = await loop.create_server(
            lambda: HttpConnection(server, self._connections, loop=loop, **self._options),
            host,
            port,
            ssl=self._ssl_context,
            backlog=self._backlog,
            reuse_port=self._reuse_port or None,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT if self._ssl_context is not None else None,
        )
