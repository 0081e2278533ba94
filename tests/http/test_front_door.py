"""Middlewares and bodies, on a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.http import bodies
from gateway.http.pages import PageRoutes
from gateway.http.problem import Problem
from gateway.http.route import JSON, SDP, Route
from gateway.http.server import ListenError, Server, application


async def refuse(_: web.Request) -> web.Response:
    raise Problem(409, "name_taken", "use another", headers={"Retry-After": "1"}, candidates=[])


async def fail(_: web.Request) -> web.Response:
    raise RuntimeError("a mistake")


async def sdp(request: web.Request) -> web.Response:
    return web.Response(text=await bodies.read_sdp(request))


async def echo(request: web.Request) -> web.Response:
    return web.json_response(await bodies.read_json_object(request))


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    routes = [
        Route("POST", "/refuse", refuse, "refuse", {}),
        Route("GET", "/fail", fail, "fail", {}),
        Route("POST", "/cam/whip", sdp, "take an offer", {}, takes=SDP),
        Route("POST", "/json", echo, "echo", {}, takes=JSON),
    ]
    server = Server(application([routes, PageRoutes().routes()]), ("127.0.0.1", 0), "httpAddr")
    yield await server.start()
    await server.stop()


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.asyncio
async def test_a_refusal_is_a_problem_with_its_own_members_and_headers(
    url: str, http: aiohttp.ClientSession
) -> None:
    async with http.post(url + "refuse") as response:
        assert response.status == 409
        assert response.content_type == "application/problem+json"
        assert response.headers["Retry-After"] == "1"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert await response.json(content_type=None) == {
            "title": "Conflict",
            "status": 409,
            "code": "name_taken",
            "detail": "use another",
            "candidates": [],
        }


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "nothing", 404, "not_found"),
        ("GET", "refuse", 405, "method_not_allowed"),
        ("GET", "fail", 500, "internal_error"),
        ("GET", "pages/..%2Fproblem.py", 404, "not_found"),
        ("GET", "pages/nothing.js", 404, "not_found"),
    ],
)
async def test_every_other_error_is_a_problem_too(
    method: str, path: str, status: int, code: str, url: str, http: aiohttp.ClientSession
) -> None:
    async with http.request(method, url + path) as response:
        assert response.status == status
        assert response.content_type == "application/problem+json"
        problem = await response.json(content_type=None)
        assert (problem["status"], problem["code"]) == (status, code)
        assert "RuntimeError" not in problem["detail"]


@pytest.mark.asyncio
async def test_options_tells_what_a_route_takes(url: str, http: aiohttp.ClientSession) -> None:
    async with http.options(url + "cam/whip") as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Methods"] == "OPTIONS, POST"
        assert response.headers["Accept-Post"] == "application/sdp"
    async with http.options(url + "nowhere") as response:
        assert response.status == 404


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
    "body", [b"", b"{", b"[]", b'"x"', b"NaN", b'{"x": Infinity}', b"[" * 100_000, b"\xff"]
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
async def test_a_slow_body_is_given_up(
    url: str, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT", 0.1)
    release = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await release.wait()

    async with http.post(url + "json", data=slow()) as response:
        assert response.status == 408
        assert json.loads(await response.read())["code"] == "body_too_slow"
    release.set()


@pytest.mark.asyncio
async def test_a_taken_address_is_one_sentence(url: str) -> None:
    port = int(url.rstrip("/").rpartition(":")[2])
    with pytest.raises(ListenError, match=rf"^-httpAddr 127\.0\.0\.1:{port} cannot be listened on"):
        await Server(application([]), ("127.0.0.1", port), "httpAddr").start()
