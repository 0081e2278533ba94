"""A shipped server to talk to, and a hand-written one that misbehaves as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import NoReturn

import aiohttp
import pytest
import pytest_asyncio

from gateway.devnet.trickle_server import TrickleServer
from harness.serving import serving, trickle_app


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client session without a limit on connections."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


@dataclass
class Served:
    trickle: TrickleServer
    root: str

    def channel(self, name: str = "c") -> str:
        self.trickle.create(name)
        return f"{self.root}/{name}"


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    """A running TrickleServer."""
    trickle = TrickleServer(continue_interval=0.05)
    async with serving(app=trickle_app(trickle)) as url:
        yield Served(trickle, f"{url}/ai/trickle")


@dataclass
class Request:
    """One request on a raw connection, its body read as it comes."""

    method: str
    path: str
    head: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def chunk(self) -> bytes:
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        data = await self.reader.readexactly(size)
        await self.reader.readexactly(2)
        return data

    async def body(self) -> bytes:
        parts = []
        while part := await self.chunk():
            parts.append(part)
        return b"".join(parts)

    def answer(self, status: int, headers: str = "", body: bytes = b"") -> None:
        self.writer.write(
            f"HTTP/1.1 {status} Whatever\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body
        )

    def interim(self) -> None:
        self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def reset(self) -> NoReturn:
        self.writer.transport.abort()
        raise ConnectionResetError

    async def hang(self) -> None:
        """Answer nothing until the client leaves."""
        with suppress(ConnectionError):
            await self.reader.read()


Script = Callable[[Request], Awaitable[None]]


@dataclass
class Rogue:
    """A server that does with each request what the test's script says."""

    script: Script
    port: int = 0
    requests: list[str] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    errors: list[Exception] = field(default_factory=list)
    server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/c"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                method, path, _ = head.split(" ", 2)
                self.requests.append(f"{method} {path}")
                await self.script(Request(method, path, head, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass
        except Exception as error:
            self.errors.append(error)
        finally:
            self.tasks.discard(task)
            writer.close()

    async def die(self) -> None:
        """Stop listening and reset what is open, as a killed process does."""
        assert self.server is not None
        self.server.close()
        for task in tuple(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
def rogue() -> Callable[[Script], AbstractAsyncContextManager[Rogue]]:
    @asynccontextmanager
    async def start(script: Script) -> AsyncIterator[Rogue]:
        rogue = Rogue(script)
        rogue.server = await asyncio.start_server(rogue.serve, "127.0.0.1", 0)
        rogue.port = rogue.server.sockets[0].getsockname()[1]
        try:
            yield rogue
        finally:
            await rogue.die()
        assert not rogue.errors

    return start
