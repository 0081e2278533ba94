from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from yarl import URL

from gateway.http import bodies
from gateway.http.route import JSON, SDP, Route
from gateway.http.server import Server, application


async def sdp(request: web.Request) -> web.Response:
    return web.Response(text=await bodies.read_sdp(request))


async def echo(request: web.Request) -> web.Response:
    return web.json_response(await bodies.read_json_object(request))


async def hurried(request: web.Request) -> web.Response:
    return web.json_response(await bodies.read_json_object(request, timeout=0.1))


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    routes = [
        Route("POST", "/cam/whip", sdp, "take an offer", {}, takes=SDP),
        Route("POST", "/json", echo, "echo", {}, takes=JSON),
        Route("POST", "/hurried", hurried, "echo what comes at once", {}, takes=JSON),
    ]
    server = Server(application([routes]), ("127.0.0.1", 0), "httpAddr")
    yield await server.start()
    await server.stop()


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("text/plain", b"v=0", 415, "unsupported_media_type"),
        ("application/sdp", b"", 400, "bad_sdp"),
        ("application/sdp", b"\xff\xfe", 400, "bad_sdp"),
        ("application/sdp", b"x" * (bodies.MAX_SDP_BYTES + 1), 413, "too_large"),
    ],
)
async def test_a_body_that_is_no_offer_is_refused(
    content_type: str, body: bytes, status: int, code: str, url: str, http: aiohttp.ClientSession
) -> None:
    async with http.post(url + "cam/whip", data=body, headers={"Content-Type": content_type}) as response:
        problem = await response.json(content_type=None)
        assert (response.status, problem["code"]) == (status, code)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"NaN", b'{"x": Infinity}', b"[" * 100_000, b"\xff", b'{"x": 1e999}']
)
async def test_what_is_no_json_object_is_refused(body: bytes, url: str, http: aiohttp.ClientSession) -> None:
    async with http.post(url + "json", data=body) as response:
        assert response.status == 400
        assert (await response.json(content_type=None))["code"] == "bad_json"


@pytest.mark.asyncio
async def test_an_endless_body_is_cut_off_at_the_limit(url: str, http: aiohttp.ClientSession) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 65_536

    async with http.post(url + "json", data=endless()) as response:
        assert response.status == 413


@pytest.mark.asyncio
async def test_a_slow_body_is_given_up(url: str, http: aiohttp.ClientSession) -> None:
    release = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await release.wait()

    async with http.post(url + "hurried", data=slow()) as response:
        assert response.status == 408
        assert json.loads(await response.read())["code"] == "body_too_slow"
    release.set()


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["json", "cam/whip", "nothing"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip"])
async def test_a_compressed_body_is_refused_and_never_read(
    path: str, encoding: str, url: str, http: aiohttp.ClientSession
) -> None:
    target = URL(url)
    reader, writer = await asyncio.open_connection(target.host, target.port)
    head = f"POST /{path} HTTP/1.1\r\nHost: x\r\nContent-Encoding: {encoding}\r\n"
    writer.write(head.encode() + b"Content-Length: 10000000\r\n\r\n\x1f\x8b" + bytes(1000))
    async with asyncio.timeout(bodies.BODY_TIMEOUT / 2):  # what is not read would be waited for
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 415 ")
    assert b"unsupported_media_type" in answer
    writer.close()


@pytest.mark.asyncio
async def test_a_body_that_says_that_it_is_not_compressed_is_read(
    url: str, http: aiohttp.ClientSession
) -> None:
    async with http.post(url + "json", data=b"{}", headers={"Content-Encoding": "identity"}) as response:
        assert response.status == 200
