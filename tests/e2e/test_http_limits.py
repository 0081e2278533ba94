"""Each limit holds for the clients that it counts, and a refusal names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.gateway import GatewayProcess, gateway_process
from tests.e2e.sessions import PUBLISH, SDP, WATCH

FLAGS = (
    *("-trustedProxies", "127.0.0.1", "-connectTimeout", "20s"),
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
