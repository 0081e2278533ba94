"""Each limit holds for the clients that it counts, and a refusal names it."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from harness.gateway import BIN, GatewayProcess, gateway_process
from harness.waiting import DEADLINE
from tests.e2e.sessions import PUBLISH, SDP, WATCH

FLAGS = (
    *("-trustedProxies", "127.0.0.1", "-cliAddr", "127.0.0.1:0", "-connectTimeout", "20s"),
    *("-maxStreamsPerAddress", "1", "-maxViewersPerAddress", "1", "-maxViewers", "2"),
    *("-maxRequestsPerAddress", "10"),
)


async def refusal(
    gateway: GatewayProcess, client: int, path: str, offer: str | None = None
) -> tuple[int, Any]:
    """The answer to a client at this address: the status, and the limit that is reached."""
    method, headers = ("GET", {}) if offer is None else ("POST", SDP)
    headers = {**headers, "X-Forwarded-For": f"198.51.100.{client}"}
    async with gateway.http.request(method, gateway.live(path), data=offer, headers=headers) as response:
        if response.status < 400:
            return response.status, None
        problem = await response.json(content_type=None)
        if response.status == 429:
            assert int(response.headers["Retry-After"]) > 0
        return response.status, problem.get("limit")


@pytest.mark.asyncio
async def test_limits_are_counted_by_address_and_by_all_together(tmp_path: Path) -> None:
    async with gateway_process(tmp_path, *FLAGS) as gateway:
        assert await refusal(gateway, 1, "a/whip", PUBLISH) == (201, None)
        assert await refusal(gateway, 1, "b/whip", PUBLISH) == (429, "-maxStreamsPerAddress")
        assert await refusal(gateway, 2, "b/whip", PUBLISH) == (201, None)

        assert await refusal(gateway, 1, "a/whep", WATCH) == (201, None)
        assert await refusal(gateway, 1, "b/whep", WATCH) == (429, "-maxViewersPerAddress")
        assert await refusal(gateway, 2, "a/whep", WATCH) == (201, None)
        assert await refusal(gateway, 3, "a/whep", WATCH) == (429, "-maxViewers")

        told = [await refusal(gateway, 4, "a/status") for _ in range(40)]
        assert told[:10] == [(200, None)] * 10
        assert (429, "-maxRequestsPerAddress") in told
        assert await refusal(gateway, 5, "a/status") == (200, None)


FEW_FILES = ("bash", "-c", 'ulimit -n 1024; exec "$0" "$@"', BIN / "livepeer-gateway")


@pytest.mark.asyncio
async def test_a_thousand_idle_connections_from_four_addresses_leave_healthz_answering(
    tmp_path: Path, many_files: None
) -> None:
    flags = ("-orchAddr", "127.0.0.1:9")
    async with gateway_process(
        tmp_path, *flags, devnet=False, wait_ready=False, program=FEW_FILES
    ) as gateway:
        await gateway.listening()
        where = urlsplit(gateway.url)
        with ExitStack() as idle:
            for number in range(1000):
                source = (f"127.0.0.{2 + number % 4}", 0)
                connection = await asyncio.to_thread(
                    socket.create_connection, (where.hostname, where.port), DEADLINE, source_address=source
                )
                idle.enter_context(connection)
            assert await gateway.get("healthz") == {"status": "alive"}
            assert (await gateway.get("debug/state"))["fds"] < 700, "connections take half of 1024"
        assert await gateway.get("healthz") == {"status": "alive"}


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for the test's own end of many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, enough), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
