"""HTTP servers on the loopback interface, for what a test or benchmark answers itself."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway.devnet.trickle_server import TrickleServer


@asynccontextmanager
async def serving(
    *routes: web.AbstractRouteDef,
    app: web.Application | None = None,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    **options: Any,
) -> AsyncIterator[str]:
    """Serve these routes while the context lasts. Gives the URL, without a slash at the end.

    Requests that hang at the end are cut off. `app` is one to serve them with, port 0 a free one. `options`
    go to aiohttp's `AppRunner`.
    """
    app = web.Application() if app is None else app
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, **options)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
        scheme = "http" if tls is None else "https"
        yield f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def trickle_app(trickle: TrickleServer, *middlewares: Middleware) -> web.Application:
    """Serves its channels, which end with the application."""
    app = web.Application(middlewares=middlewares)
    app.add_routes(trickle.routes())
    app.on_shutdown.append(trickle.shutdown)
    return app
