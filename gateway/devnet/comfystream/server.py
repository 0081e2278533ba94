"""HTTP server: `/offer` and `/health`, both also under `/live`, and the state for tests."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web
from aiortc import RTCSessionDescription

from gateway.devnet.comfystream.connection import ClientConnection
from gateway.devnet.comfystream.control import resolution
from gateway.devnet.comfystream.pipeline import BadPrompts, Pipeline

log = structlog.get_logger("devnet.comfystream")

MAX_BODY = 16 << 20
MAX_CONNECTIONS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ComfyStreamConfig:
    """Port 0 takes a free one; `effect` is for prompts without one; an offer waits `warm_up` seconds."""

    host: str = "127.0.0.1"
    port: int = 0
    effect: str = "negative"
    warm_up: float = 0.0


class ComfyStream:
    """`start` listens, `stop` ends all connections and frees everything."""

    def __init__(self, config: ComfyStreamConfig) -> None:
        self.url = ""
        self._config = config
        self._pipeline = Pipeline(config.effect)
        self._connections: set[ClientConnection] = set()
        self._offers = 0
        self._server: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen; returns the URL. Raises OSError where the port is taken."""
        app = web.Application(client_max_size=MAX_BODY)
        for prefix in ("", "/live"):
            app.router.add_post(f"{prefix}/offer", self._offer)
            app.router.add_get(f"{prefix}/health", self._health)
            app.router.add_get(f"{prefix}/", self._health)
        app.router.add_get("/devnet/state", self._state)
        self._server = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._server.setup()
        await web.TCPSite(self._server, self._config.host, self._config.port).start()
        host, port = self._server.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        log.info("comfystream listens", url=self.url, effect=self._config.effect)
        return self.url

    async def stop(self) -> None:
        """End all connections and stop listening."""
        await asyncio.gather(*(connection.close() for connection in list(self._connections)))
        if self._server is not None:
            await self._server.cleanup()

    def fall_back(self) -> None:
        """Have the workflow fail as it runs."""
        self._pipeline.fall_back()

    async def _offer(self, request: web.Request) -> web.Response:
        try:
            body: Any = json.loads(await request.read())
            offer = RTCSessionDescription(sdp=body["offer"]["sdp"], type=body["offer"]["type"])
        except (ValueError, RecursionError, KeyError, TypeError):
            return web.json_response({"error": "the body has no offer"}, status=400)
        self._forget_closed()
        if len(self._connections) >= MAX_CONNECTIONS:
            return web.json_response({"error": "too many connections"}, status=503)
        prompts = body.get("prompts")
        self._offers += 1
        size = resolution(body.get("resolution"))
        if size is not None:
            self._pipeline.size = size
        if prompts:
            # one pipeline for all: an offer with prompts sets them and waits for the warm-up
            try:
                await asyncio.sleep(self._config.warm_up)
                self._pipeline.apply(prompts)
            except BadPrompts as error:
                return _server_error(error)
            if not self._pipeline.warm_up():
                await asyncio.Event().wait()  # as in ComfyStream, until the server ends
        connection = ClientConnection(self._pipeline, has_prompts=bool(prompts))
        self._connections.add(connection)
        try:
            answer = await connection.answer(offer)
        except ValueError as error:
            await connection.close()
            return _server_error(error)
        return web.json_response({"sdp": answer.sdp, "type": answer.type})

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(content_type="application/json", text="OK")

    async def _state(self, _: web.Request) -> web.Response:
        self._forget_closed()
        pipeline = self._pipeline
        return web.json_response(
            {
                "connections": len(self._connections),
                "offers": self._offers,
                "pictures_kept": sum(connection.kept for connection in self._connections),
                "prompts": pipeline.prompts,
                "prompts_set": pipeline.changes,
                "running": pipeline.running,
                "effect": pipeline.effect,
                "resolution": {"width": pipeline.size.width, "height": pipeline.size.height},
            }
        )

    def _forget_closed(self) -> None:
        self._connections = {one for one in self._connections if not one.closed.is_set()}


def _server_error(error: Exception) -> web.Response:
    """The answer of aiohttp to an exception in ComfyStream: the reason is only in the server's log."""
    log.warning("offer failed", error=str(error))
    text = "500 Internal Server Error\n\nServer got itself in trouble"
    return web.Response(status=500, text=text)
