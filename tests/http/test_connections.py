"""A server among idle, slow and too many connections."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from gateway.http.connections import MAX_HEAD, ConnectionLimits, Connections
from gateway.http.route import Route
from gateway.http.server import Server, application
from harness.waiting import eventually, within

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Served:
    """A server of /healthz, of /large (20 MB) and of /long, which answers when `go_on` is set."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self.go_on = asyncio.Event()
        self.port = 0

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _large(self, _: web.Request) -> web.Response:
        return web.Response(body=bytes(20_000_000))

    async def _long(self, _: web.Request) -> web.Response:
        await self.go_on.wait()
        return web.Response()

    def routes(self) -> list[Route]:
        handlers = {"/healthz": self._healthz, "/large": self._large, "/long": self._long}
        return [Route("GET", path, handler, "", {}) for path, handler in handlers.items()]

    async def open(self, request: bytes = b"") -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        return reader, writer

    async def answers(self) -> bool:
        """Whether a new client gets its answer."""
        reader, writer = await self.open(HEALTHZ)
        line = await within(reader.readline())
        writer.close()
        return line.startswith(b"HTTP/1.1 200")


@asynccontextmanager
async def served(
    *, total: int = 0, per_address: int = 0, idle_timeout: float = 60.0, proxies: tuple[str, ...] = ()
) -> AsyncIterator[Served]:
    limits = ConnectionLimits(total, per_address, idle_timeout)
    one = Served(Connections(limits, shared=proxies.__contains__))
    app = application([one.routes()])
    server = Server(app, ("127.0.0.1", 0), "httpAddr", connections=one.connections)
    one.port = int((await server.start()).rstrip("/").rpartition(":")[2])
    try:
        yield one
    finally:
        one.go_on.set()
        await server.stop()
    assert len(one.connections) == 0


async def closed(streams: Streams) -> bytes:
    """All that comes until the server closes the connection."""
    got = await within(streams[0].read())
    streams[1].close()
    return got


@pytest.mark.asyncio
async def test_many_idle_connections_of_one_address_are_closed_for_its_new_ones() -> None:
    async with served(per_address=8) as server:
        idle = [await server.open() for _ in range(30)]
        assert await server.answers()
        assert len(server.connections) <= 8
        assert [await closed(one) for one in idle[:20]] == [b""] * 20
        for _, writer in idle[20:]:
            writer.close()


@pytest.mark.asyncio
async def test_what_is_being_answered_is_not_closed_and_leaves_no_room_when_it_is_all() -> None:
    async with served(total=4) as server:
        busy = [await server.open(HEALTHZ.replace(b"healthz", b"long")) for _ in range(4)]
        await eventually(lambda: not any(one.idle for one in server.connections), every=0.005)
        assert await closed(await server.open(HEALTHZ)) == b""
        server.go_on.set()
        for reader, writer in busy:
            assert (await within(reader.readline())).startswith(b"HTTP/1.1 200")
            writer.close()
        await eventually(lambda: any(one.idle for one in server.connections) or not len(server.connections))
        assert await server.answers()


def test_connections_take_half_of_the_descriptors_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 1024))
    assert ConnectionLimits(total=4096, per_address=0, idle_timeout=1).most == 512
    assert ConnectionLimits(total=100, per_address=0, idle_timeout=1).most == 100
    assert ConnectionLimits(total=0, per_address=0, idle_timeout=1).most == 512
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, 0))
    assert ConnectionLimits(total=4096, per_address=0, idle_timeout=1).most == 4096


@pytest.mark.asyncio
async def test_a_trusted_proxy_is_not_one_address() -> None:
    async with served(per_address=2, proxies=("127.0.0.1",)) as server:
        clients = [await server.open(HEALTHZ) for _ in range(10)]
        for reader, writer in clients:
            assert (await within(reader.readline())).startswith(b"HTTP/1.1 200")
            writer.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("beginning", [b"", b"GET /healthz HTTP/1.1\r\nHost: local", HEALTHZ])
async def test_a_connection_without_a_whole_request_is_closed(beginning: bytes) -> None:
    async with served(idle_timeout=0.2) as server:
        streams = await server.open(beginning)
        got = await closed(streams)
        assert got.startswith(b"HTTP/1.1 200") is (beginning is HEALTHZ)


@pytest.mark.asyncio
async def test_a_client_that_does_not_read_its_answer_is_left() -> None:
    async with served(idle_timeout=0.2) as server:
        reader, writer = await server.open(HEALTHZ.replace(b"healthz", b"large"))
        await within(reader.readline())
        await eventually(lambda: len(server.connections) == 0, what="the end of its connection")
        writer.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("ends", [b"", b"\r\n"])
async def test_large_heads_are_refused_whether_they_end_or_not(ends: bytes) -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 4000) for number in range(1 + MAX_HEAD // 4000))
    async with served() as server:
        streams = await server.open(HEALTHZ[:-2] + lines + ends)
        assert (await within(streams[0].readline())).startswith(b"HTTP/1.1 431")
        streams[1].close()
        assert await server.answers()


@pytest.mark.asyncio
async def test_what_is_no_http_gets_a_problem_without_versions() -> None:
    async with served() as server:
        got = await closed(await server.open(b"\x16\x03\x01\x02\x00 hello\r\n\r\n"))
        head, _, body = got.partition(b"\r\n\r\n")
        headers: dict[str, Any] = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        assert headers["Server"] == "livepeer-gateway"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert b"aiohttp" not in got
        assert json.loads(body)["code"] == "bad_http"
