"""The two listeners: one for publishers, viewers and the page, one for the operator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aiohttp import web

from gateway.http.cors import cross_origin
from gateway.http.problem import problems

SHUTDOWN_TIMEOUT = 2.0


class ListenError(Exception):
    """An address cannot be listened on, as a sentence."""


def application(routes: Iterable[Sequence[web.RouteDef]]) -> web.Application:
    """An app of these routes in which every error is a problem and every origin is welcome."""
    app = web.Application(middlewares=[cross_origin, problems])
    for group in routes:
        app.add_routes(group)
    return app


class Server:
    """An app that listens on one address."""

    def __init__(self, app: web.Application, address: tuple[str, int], flag: str) -> None:
        self._address = address
        self._flag = flag
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_TIMEOUT
        )

    async def start(self) -> str:
        """Listen. Gives the URL it is reached at; raises ListenError where the address cannot be had."""
        host, port = self._address
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, host, port)
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            reason = error.strerror or str(error)
            raise ListenError(
                f"-{self._flag} {host}:{port} cannot be listened on ({reason}): free it, or choose another"
            ) from error
        bound = self._runner.addresses[0]
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{bound[1]}/"

    async def stop(self) -> None:
        await self._runner.cleanup()
