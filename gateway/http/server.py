"""An aiohttp application made of routes, and the server that listens for it."""

from __future__ import annotations

import errno
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware
from typing_extensions import override

from gateway.http.bodies import refuse_compressed
from gateway.http.connections import HEADERS, ConnectionLimits, Connections, Site, bounded_head
from gateway.http.cors import options
from gateway.http.forwarding import Forwarding
from gateway.http.origins import ANY, Origins
from gateway.http.problem import problems
from gateway.http.route import Route

SHUTDOWN_TIMEOUT = 2.0
ALL = "::"
"""All addresses of IPv6, and of IPv4 with them."""
EVERY_ORIGIN = Origins([ANY], Forwarding())


class ListenError(Exception):
    """A server cannot be started, as a sentence."""


Guard = Callable[[web.Request, Route], Awaitable[None]]
"""Awaited before a route's handler; raises Problem to refuse the request."""


def application(
    routes: Iterable[Sequence[Route]],
    *,
    guards: Sequence[Guard] = (),
    middlewares: Sequence[Middleware] = (),
    origins: Origins = EVERY_ORIGIN,
) -> web.Application:
    """An app that serves `routes` to the pages of `origins`, and answers errors with problem details.

    `guards` run for each route; `middlewares` also see requests that match no route.
    """
    always = [bounded_head, refuse_compressed, problems, origins.check]
    app = web.Application(middlewares=[*always, *middlewares])
    app.on_response_prepare.append(_add_headers)
    app.on_response_prepare.append(origins.add_headers)
    by_path: dict[str, list[Route]] = {}
    for route in (route for group in routes for route in group):
        by_path.setdefault(route.path, []).append(route)
    for path, siblings in by_path.items():
        for route in siblings:
            handler = _guarded(route, guards)
            if route.method == "GET":
                app.router.add_get(path, handler)
            else:
                app.router.add_route(route.method, path, handler)
        app.router.add_route("OPTIONS", path, options(siblings))
    return app


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _guarded(route: Route, guards: Sequence[Guard]) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        for guard in guards:
            await guard(request, route)
        return await route.handler(request)

    return handle


class _WithoutBadHttp(logging.Filter):
    """Drops errors of requests that are not HTTP: the sender's fault, answered with 400."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError)


_server_log = logging.getLogger("aiohttp.server")
_server_log.addFilter(_WithoutBadHttp())


def is_without_ipv6(error: OSError) -> bool:
    """Whether this machine has no IPv6."""
    return error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


class SocketServer:
    """Serves an app on a socket in the file system: whoever may open it is trusted."""

    def __init__(self, app: web.Application, path: Path) -> None:
        self._path = path
        self._runner = web.AppRunner(
            app,
            handle_signals=False,
            shutdown_timeout=SHUTDOWN_TIMEOUT,
            access_log=None,
            logger=_server_log,
            auto_decompress=False,
        )

    async def start(self) -> None:
        """Raises ListenError."""
        await self._runner.setup()
        try:
            await web.UnixSite(self._runner, self._path).start()
        except OSError as error:
            raise ListenError(f"the socket {self._path} cannot be used: {error}") from error

    async def stop(self) -> None:
        await self._runner.cleanup()


class Server:
    """Serves an app on one address; `::` is all of IPv4 and IPv6. `flag` gave it, for errors."""

    def __init__(
        self,
        app: web.Application,
        address: tuple[str, int],
        flag: str,
        tls: ssl.SSLContext | None = None,
        *,
        connections: Connections | None = None,
        reuse_port: bool = False,
    ) -> None:
        """`reuse_port`: share the port with other processes, each of which gets a part of the connections."""
        self._address = address
        self._reuse_port = reuse_port
        self._flag = flag
        self._tls = tls
        if connections is None:
            connections = Connections(ConnectionLimits(0, 0, idle_timeout=60.0))
        self._connections = connections
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=SHUTDOWN_TIMEOUT)

    async def start(self) -> str:
        """Listen; gives the server's URL. Raises ListenError where the address is not available."""
        host, port = self._address
        await self._runner.setup()
        try:
            if host == ALL:
                await self._listen("0.0.0.0", port)
                await self._listen_on_ipv6(self._runner.addresses[0][1])
            else:
                await self._listen(host, port)
        except OSError as error:
            await self._runner.cleanup()
            reason = error.strerror or str(error)
            raise ListenError(
                f"-{self._flag} {host}:{port} cannot be used ({reason}): free it, or choose another"
            ) from error
        bound = self._runner.addresses[0]
        shown = "0.0.0.0" if host == ALL else f"[{host}]" if ":" in host else host
        return f"{'https' if self._tls else 'http'}://{shown}:{bound[1]}/"

    async def _listen(self, host: str, port: int) -> None:
        site = Site(
            self._runner,
            (host, port),
            self._connections,
            self._tls,
            reuse_port=self._reuse_port,
            access_log=None,
            logger=_server_log,
            auto_decompress=False,  # also what no handler reads would be: a megabyte may hold a gigabyte
        )
        await site.start()

    async def _listen_on_ipv6(self, port: int) -> None:
        # asyncio makes IPv6 sockets that take no IPv4
        try:
            await self._listen(ALL, port)
        except OSError as error:
            if not is_without_ipv6(error):
                raise

    async def stop(self) -> None:
        await self._runner.cleanup()
