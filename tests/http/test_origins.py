"""Which pages may use the gateway, and under which names it answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from gateway.http.forwarding import Forwarding, parse_networks
from gateway.http.origins import ANY, Origins, own_names
from gateway.http.route import Route
from gateway.http.server import Server, application

PAGE = "https://page.example"


async def answer(_: web.Request) -> web.Response:
    return web.json_response({})


@asynccontextmanager
async def serving(origins: Origins) -> AsyncIterator[aiohttp.ClientSession]:
    routes = [
        Route("GET", "/status", answer, "read", {}),
        Route("POST", "/status", answer, "change", {}),
        Route("GET", "/metrics", answer, "for operators", {}),
        Route("GET", "/healthz", answer, "health", {}),
    ]
    server = Server(application([routes], origins=origins), ("127.0.0.1", 0), "httpAddr")
    url = await server.start()
    try:
        async with aiohttp.ClientSession(url) as http:
            yield http
    finally:
        await server.stop()


def policy(
    *allowed: str, hosts: Collection[str] | None = None, forwarding: Forwarding | None = None
) -> Origins:
    return Origins(allowed, forwarding or Forwarding(), operator=["/metrics"], hosts=hosts)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("allowed", "headers", "status"),
    [
        ([], {}, 200),
        ([], {"Origin": PAGE}, 403),
        ([], {"Origin": "null"}, 403),
        ([], {"Origin": "http://[x"}, 403),
        ([], {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}, 403),
        ([], {"Sec-Fetch-Site": "cross-site"}, 403),
        ([], {"Sec-Fetch-Site": "same-origin"}, 200),
        ([PAGE], {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}, 200),
        ([PAGE], {"Origin": PAGE + ":8443"}, 403),
        ([ANY], {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}, 200),
    ],
)
async def test_only_pages_of_allowed_origins_change_something(
    allowed: list[str], headers: dict[str, str], status: int
) -> None:
    async with serving(policy(*allowed)) as http, http.post("/status", headers=headers) as response:
        assert response.status == status
        if status == 403:
            problem = await response.json(content_type=None)
            assert problem["code"] == "cross_origin"
            assert "-corsOrigins" in problem["detail"]


@pytest.mark.asyncio
async def test_the_gateways_own_page_needs_no_leave_also_behind_a_proxy() -> None:
    forwarding = Forwarding("https://video.example/gateway")
    async with serving(policy(forwarding=forwarding)) as http:
        async with http.get("/status") as response:
            own = str(response.url.origin())
        for origin in (own, "https://video.example"):
            async with http.post("/status", headers={"Origin": origin}) as response:
                assert response.status == 200


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("allowed", "path", "may_read"),
    [
        ([], "/status", None),
        ([PAGE], "/status", PAGE),
        (["https://other.example"], "/status", None),
        ([ANY], "/status", "*"),
        ([ANY], "/metrics", None),
    ],
)
async def test_only_pages_of_allowed_origins_read_and_none_the_operators_routes(
    allowed: list[str], path: str, may_read: str | None
) -> None:
    async with serving(policy(*allowed)) as http:
        async with http.get(path, headers={"Origin": PAGE}) as response:
            assert response.status == 200
            assert response.headers.get("Access-Control-Allow-Origin") == may_read
        async with http.options(path, headers={"Origin": PAGE}) as response:
            assert response.status == 204
            assert response.headers.get("Access-Control-Allow-Origin") == may_read


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("host", "path", "status"),
    [
        ("localhost:9935", "/status", 200),
        ("LOCALHOST", "/status", 200),
        ("127.0.0.1:1", "/status", 200),
        ("[::1]:1", "/status", 200),
        ("192.0.2.1", "/status", 200),
        ("evil.example:9935", "/status", 421),
        ("evil.example", "/metrics", 421),
        ("[::1", "/status", 421),
        ("evil.example", "/healthz", 200),
    ],
)
async def test_a_name_that_is_not_the_gateways_is_refused(host: str, path: str, status: int) -> None:
    origins = policy(ANY, hosts=own_names("127.0.0.1", None, ()))
    async with serving(origins) as http, http.get(path, headers={"Host": host}) as response:
        assert response.status == status
        if status == 421:
            problem = await response.json(content_type=None)
            assert (problem["code"], "-allowedHosts" in problem["detail"]) == ("wrong_host", True)


@pytest.mark.asyncio
async def test_the_name_that_a_trusted_proxy_passes_on_is_not_looked_at() -> None:
    forwarding = Forwarding(trusted=parse_networks("127.0.0.1"))
    origins = policy(ANY, hosts=own_names("127.0.0.1", None, ()), forwarding=forwarding)
    async with serving(origins) as http, http.get("/status", headers={"Host": "any.example"}) as response:
        assert response.status == 200


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "8.8.8.8", "video.example"])
def test_where_everybody_reaches_it_every_name_is_good(address: str) -> None:
    assert own_names(address, None, ()) is None


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "::1", "10.1.2.3", "192.168.1.1", "fd00::1"])
def test_inside_a_network_these_names_are_good(address: str) -> None:
    names = own_names(address, "https://video.example/x", ("studio",))
    assert names is not None
    assert {"localhost", "video.example", "studio"} <= set(names)
    assert "evil.example" not in names
