"""Problem details, CORS and addresses, on a real server."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.http.pages import PageRoutes
from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import SDP, Route
from gateway.http.server import ListenError, Server, application


async def refuse(_: web.Request) -> web.Response:
    raise Problem(409, ProblemCode.NAME_TAKEN, "use another", headers={"Retry-After": "1"}, candidates=[])


async def fail(_: web.Request) -> web.Response:
    raise RuntimeError("a mistake")


async def sdp(_: web.Request) -> web.Response:
    return web.Response()


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    routes = [
        Route("POST", "/refuse", refuse, "refuse", {}),
        Route("GET", "/fail", fail, "fail", {}),
        Route("POST", "/cam/whip", sdp, "take an offer", {}, takes=SDP),
    ]
    pages = PageRoutes(["https://page.example"]).routes()
    server = Server(application([routes, pages]), ("127.0.0.1", 0), "httpAddr")
    yield await server.start()
    await server.stop()


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.asyncio
async def test_two_servers_share_a_port_only_where_both_are_to() -> None:
    first = Server(application([]), ("127.0.0.1", 0), "httpAddr", reuse_port=True)
    port = int((await first.start()).rstrip("/").rpartition(":")[2])
    second = Server(application([]), ("127.0.0.1", port), "httpAddr", reuse_port=True)
    await second.start()
    await second.stop()
    with pytest.raises(ListenError):
        await Server(application([]), ("127.0.0.1", port), "httpAddr").start()
    await first.stop()


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
@pytest.mark.parametrize("path", ["", "watch", "pages/app.js", "nothing", "refuse", "fail"])
async def test_no_answer_names_versions_or_is_of_a_guessed_type(
    path: str, url: str, http: aiohttp.ClientSession
) -> None:
    async with http.get(url + path) as response:
        assert response.headers["Server"] == "livepeer-gateway"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "policy"),
    [("", "frame-ancestors 'self'"), ("watch", "frame-ancestors 'self' https://page.example")],
)
async def test_only_the_viewers_page_is_shown_in_frames_of_the_origins_that_are_named(
    path: str, policy: str, url: str, http: aiohttp.ClientSession
) -> None:
    async with http.get(url + path) as response:
        policies = response.headers["Content-Security-Policy"].split("; ")
        assert policy in policies
        assert {"default-src 'none'", "script-src 'self'"} < set(policies)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "nothing", 404, "not_found"),
        ("GET", "refuse", 405, "method_not_allowed"),
        ("GET", "fail", 500, "internal_error"),
        ("GET", "pages/..%2Fproblem.py", 404, "not_found"),
        ("GET", "pages/nothing.js", 404, "not_found"),
        ("GET", "pages/" + "x" * 300, 404, "not_found"),
        ("GET", "pages/%00", 404, "not_found"),
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
async def test_a_taken_address_is_one_sentence(url: str) -> None:
    port = int(url.rstrip("/").rpartition(":")[2])
    with pytest.raises(ListenError, match=rf"^-httpAddr 127\.0\.0\.1:{port} cannot be used"):
        await Server(application([]), ("127.0.0.1", port), "httpAddr").start()


@pytest.mark.asyncio
async def test_all_addresses_are_those_of_ipv4_and_ipv6(http: aiohttp.ClientSession) -> None:
    server = Server(application([[]]), ("::", 0), "httpAddr")
    url = await server.start()
    hosts = ["127.0.0.1", "[::1]"] if has_ipv6() else ["127.0.0.1"]
    for host in hosts:
        async with http.get(url.replace("0.0.0.0", host)) as response:
            assert response.status == 404
    await server.stop()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
