"""A signer for tests: a real HTTP server on loopback with answers of the test's choice."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from harness.serving import serving
from signer_client import SignerClient, SignerState

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


PAYMENT = {
    "payment": b64(b"payment"),
    "segCreds": b64(b"creds"),
    "state": {"State": b64(b"{}"), "Sig": b64(b"s" * 65)},
}
STATE = SignerState(b64(b"{}"), b64(b"s" * 65))


class Server:
    """A signer that answers with one handler and keeps what it was asked."""

    def __init__(self, *handlers: Handler) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[Any] = []
        self._handlers = list(handlers)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.json() if request.can_read_body else None)
        handler = self._handlers.pop(0) if len(self._handlers) > 1 else self._handlers[0]
        return await handler(request)


def answers(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Handler:
    async def handle(_: web.Request) -> web.Response:
        return web.json_response(body, status=status, headers=headers)

    return handle


def fails(status: int, message: str = "no", **headers: str) -> Handler:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return answers({"error": {"message": message}}, status, named)


@asynccontextmanager
async def signer(*handlers: Handler, **options: Any) -> AsyncIterator[tuple[SignerClient, Server]]:
    server = Server(*handlers)
    async with (
        serving(web.route("*", "/{path:.*}", server.handle)) as url,
        SignerClient(url + "/", backoff=0.001, **options) as it,
    ):
        yield it, server
