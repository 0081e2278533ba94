"""A proxy of a trickle channel on which segments are slow and other requests are not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
from aiohttp import web
from yarl import URL

from gateway.devnet.orchestrator.tls import server_context

BUFFER = 4096
"""Bytes, the size of the receive buffer; the rest fills the sender's buffers."""


class SlowUplink:
    """`url` gives the way to a channel. `bytes_per_second`, of each segment, may be changed at any time."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.bytes_per_second = float("inf")
        self.most_in_flight = 0
        """Segments at once of which something has come, but not their end or word that they are given up."""
        self._http = http
        self._home = URL()
        self._upstream = URL()
        self._in_flight: set[str] = set()

    def url(self, channel: str) -> str:
        self._upstream = URL(channel).origin()
        return str(self._home.with_path(URL(channel).path))

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._post)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=1, handler_cancellation=True, read_bufsize=BUFFER
        )
        await runner.setup()
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        listening.bind(("127.0.0.1", 0))
        self._home = URL.build(scheme="https", host="127.0.0.1", port=listening.getsockname()[1])
        context = await asyncio.to_thread(server_context, "127.0.0.1", alpn=["http/1.1"])
        await web.SockSite(runner, listening, ssl_context=context).start()
        return runner

    async def _post(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._forward(request, self._crawl(request))
        finally:
            self._in_flight.discard(request.path)

    async def _crawl(self, request: web.Request) -> AsyncIterator[bytes]:
        yield b""  # so that the headers go before the first byte is there
        with suppress(ConnectionError):
            async for data in request.content.iter_any():
                self._in_flight.add(request.path)
                self.most_in_flight = max(self.most_in_flight, len(self._in_flight))
                await asyncio.sleep(len(data) / self.bytes_per_second)
                yield data

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        if request.method == "DELETE":
            self._in_flight.discard(request.path)
        return await self._forward(request, None)

    async def _forward(self, request: web.Request, body: AsyncIterator[bytes] | None) -> web.StreamResponse:
        headers = {"Content-Type": request.content_type} if body is not None else {}
        url = self._upstream.join(request.rel_url)
        async with self._http.request(request.method, url, data=body, headers=headers) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.startswith("Lp-")}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)


@asynccontextmanager
async def slow_uplink() -> AsyncIterator[SlowUplink]:
    connector = aiohttp.TCPConnector(ssl=False, limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout()) as http:
        uplink = SlowUplink(http)
        runner = await uplink.start()
        try:
            yield uplink
        finally:
            await runner.cleanup()
