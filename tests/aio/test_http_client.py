"""HTTP clients against servers that are somewhere else than they seem, compress, or never begin."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from gateway.aio.client_tls import client_context
from gateway.aio.http_client import (
    MAX_INTERIM,
    ClientSessions,
    UnwantedEncoding,
    client_session,
    only_inside,
)
from gateway.aio.inside import PUBLIC, Reach
from harness.serving import serving
from harness.waiting import DEADLINE

HERE = Reach.of("here", ip_address("127.0.0.1"))


class Server:
    """Counts its requests and answers with `answer`."""

    def __init__(self) -> None:
        self.port = 0
        self.requests = 0
        self.answer = web.Response()

    async def handle(self, request: web.Request) -> web.Response:
        self.requests += 1
        assert request.headers["Accept-Encoding"] == "identity"
        answer = self.answer
        return web.Response(body=answer.body, headers=answer.headers, status=answer.status)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    async with serving(web.get("/{path:.*}", server.handle)) as url:
        server.port = URL(url).port or 0
        yield server


def answers(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every name resolve to these addresses."""

    async def resolve(_: Any, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        return [
            {"hostname": host, "host": one, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
            for one in addresses
        ]

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:7f00:1]", "localhost", "0"],
)
async def test_nothing_inside_is_connected_to_for_who_is_outside(server: Server, host: str) -> None:
    async with client_session(PUBLIC) as http:
        with pytest.raises(aiohttp.ClientConnectorError, match="in a private network"):
            await http.get(f"http://{host}:{server.port}/")
    assert server.requests == 0


@pytest.mark.asyncio
async def test_a_name_is_checked_each_time_that_it_is_connected_to(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer.headers["Connection"] = "close"
    async with client_session(HERE) as http:
        answers(monkeypatch, "127.0.0.1")
        await http.get(f"http://o.example:{server.port}/")
        answers(monkeypatch, "10.0.0.1")
        with pytest.raises(aiohttp.ClientConnectorError, match=r"10\.0\.0\.1"):
            await http.get(f"http://o.example:{server.port}/")


@pytest.mark.asyncio
async def test_of_a_name_with_several_addresses_only_those_that_may_be_are_used(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, "10.0.0.1", "127.0.0.1")
    async with client_session(HERE) as http:
        await http.get(f"http://o.example:{server.port}/")
    assert server.requests == 1


@pytest.mark.asyncio
async def test_connections_are_not_shared_with_who_may_reach_less(server: Server) -> None:
    sessions = ClientSessions(client_context(verify=False))
    try:
        await sessions.get(HERE).get(f"http://localhost:{server.port}/")
        assert sessions.get(HERE) is sessions.get(Reach.of("here", ip_address("127.0.0.2")))
        with pytest.raises(aiohttp.ClientConnectorError):
            await sessions.get(PUBLIC).get(f"http://localhost:{server.port}/")
    finally:
        await sessions.close()
    assert server.requests == 1


@pytest.mark.asyncio
async def test_a_session_knows_whether_it_was_inside_only(server: Server) -> None:
    async with client_session(None) as http:
        assert not only_inside(http), "it was nowhere yet"
        await http.get(f"http://127.0.0.1:{server.port}/")
        assert only_inside(http)


@pytest.mark.asyncio
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "x"])
async def test_an_answer_in_an_encoding_that_was_not_asked_for_is_not_read(
    server: Server, encoding: str
) -> None:
    server.answer = web.Response(body=gzip.compress(bytes(10_000)), headers={"Content-Encoding": encoding})
    async with client_session(None) as http:
        with pytest.raises(UnwantedEncoding):
            await http.get(f"http://127.0.0.1:{server.port}/")


async def interim(count: int, pause: float) -> AsyncIterator[str]:
    """A server that sends interim answers before its answer, or instead of it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            for _ in range(count):
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * (1 if pause else 100))
                await writer.drain()
                await asyncio.sleep(pause)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()


@pytest.mark.asyncio
async def test_interim_answers_without_end_are_not_waited_for() -> None:
    async for url in interim(10**6, 0):
        async with asyncio.timeout(DEADLINE), client_session(None) as http:
            with pytest.raises(aiohttp.ClientConnectionError, match="without end"):
                await http.get(url)


@pytest.mark.asyncio
async def test_a_few_interim_answers_are_passed_over() -> None:
    async for url in interim(MAX_INTERIM - 1, 0.001):
        async with client_session(None) as http, http.get(url) as response:
            assert response.status == 200
