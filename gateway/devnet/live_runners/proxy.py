"""Passes requests for a session's app on to it: any method, streamed both ways, SSE and WebSocket too."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from gateway.aio.tasks import TaskGroup
from gateway.devnet.live_runners.refusal import RequestRefused
from gateway.devnet.live_runners.registry import RunnerRegistry
from gateway.devnet.live_runners.runner import RegisteredRunner
from gateway.devnet.live_runners.session import LiveSession

HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that are each connection's own (RFC 9110, 7.6.1), and those that aiohttp writes itself."""
WEBSOCKET_HEADERS = frozenset(
    {"sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions", "sec-websocket-protocol"}
)
MAX_MESSAGE = 16_000_000


class Proxy:
    """Adds the four headers by which the app knows its session."""

    def __init__(self, registry: RunnerRegistry, http: aiohttp.ClientSession) -> None:
        self._registry = registry
        self._http = http

    async def handle(
        self, request: web.Request, runner: RegisteredRunner, session: LiveSession
    ) -> web.StreamResponse:
        """Pass the request on. Raises RequestRefused with 502 where the app cannot be reached."""
        # /apps/{route}/session/{session}/app/{path}, escaped as the client had it
        path = request.rel_url.raw_path.split("/", 6)[6:]
        url = URL("/".join([runner.registration.runner_url, *(path or [""])]), encoded=True)
        if request.rel_url.raw_query_string:
            url = URL(f"{url}?{request.rel_url.raw_query_string}", encoded=True)
        headers = CIMultiDict(
            (name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP
        )
        headers["Livepeer-Runner-Route"] = runner.route
        headers["Livepeer-Session-Id"] = session.id
        headers["Livepeer-Session-Token"] = session.token
        headers["Livepeer-Session-Control"] = (
            f"{self._registry.url}/runner/{runner.route}/session/{session.id}"
        )
        transport = request.transport
        cut = transport.abort if transport is not None else lambda: None
        session.cut.add(cut)
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._websocket(request, url, headers)
            return await self._http_request(request, url, headers)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RequestRefused(502, "runner destination unavailable") from error
        finally:
            session.cut.discard(cut)

    async def _http_request(
        self, request: web.Request, url: URL, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        body = request.content.iter_any() if request.can_read_body else None
        async with self._http.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as answer:
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    response.headers.add(name, value)
            with suppress(ConnectionError):
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            return response

    async def _websocket(
        self, request: web.Request, url: URL, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        offered = [
            part.strip()
            for part in request.headers.get("Sec-WebSocket-Protocol", "").split(",")
            if part.strip()
        ]
        for name in WEBSOCKET_HEADERS:
            headers.popall(name, None)
        async with self._http.ws_connect(
            url, headers=headers, protocols=offered, max_msg_size=MAX_MESSAGE
        ) as app:
            client = web.WebSocketResponse(
                protocols=[app.protocol] if app.protocol else (), max_msg_size=MAX_MESSAGE
            )
            await client.prepare(request)
            async with TaskGroup() as group:
                pumps = {
                    group.create_task(_pump(client, app), name="websocket to app"),
                    group.create_task(_pump(app, client), name="websocket from app"),
                }
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                for pump in pumps:
                    pump.cancel()
            return client


WebSocket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pump(source: WebSocket, target: WebSocket) -> None:
    """Pass messages on until one side closes, then close the other."""
    with suppress(ConnectionError):
        async for message in source:
            if message.type is aiohttp.WSMsgType.TEXT:
                await target.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await target.send_bytes(message.data)
    await target.close(code=source.close_code or aiohttp.WSCloseCode.OK)
