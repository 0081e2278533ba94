"""What strangers, broken programs and a hostile network send: one row each, answered and nothing left behind.

`test_requests.py` has what comes over HTTP, `test_media.py` who connects or tries to, `test_surroundings.py`
what the gateway itself depends on, `test_start.py` what keeps it from starting.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.clients.gateway import GatewayProcess, eventually, gateway_process

COUNTED = ("peers", "streams", "viewers", "trickle", "sessions", "held_bytes")
SLOWER = ("tasks_total", "fds", "threads")
"""What idle connections to orchestrators hold for some seconds: looked at once, after all rows."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    flags = ("-orchestrators", "1", "-connectTimeout", "2s", "-ingestTimeout", "1s")
    async with gateway_process(tmp_path_factory.mktemp("bad"), *flags) as gateway:
        before = await gateway.get("debug/state")
        yield gateway

        async def given_back() -> bool:
            after = await gateway.get("debug/state")
            return all(after[key] <= before[key] for key in SLOWER)

        await eventually(given_back, deadline=60, what="tasks and descriptors given back")


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(daemon: GatewayProcess) -> AsyncIterator[GatewayProcess]:
    """The daemon, which afterwards holds what it held before, and left nothing open upstream."""
    before = await daemon.get("debug/state")
    sessions = [set(audit["sessions"]) for audit in await daemon.audits()]
    yield daemon

    async def given_back() -> bool:
        after = await daemon.get("debug/state")
        return all(after[key] <= before[key] for key in COUNTED)

    await eventually(given_back, deadline=30, what="everything given back")
    for audit, known in zip(await daemon.audits(), sessions, strict=True):
        assert audit["rejected"] == audit["duplicate_nonces"] == 0
        opened = [session for name, session in audit["sessions"].items() if name not in known]
        assert all(session["ended"] for session in opened)
    log = daemon.log.read_text()
    assert "Traceback" not in log
    assert "request failed" not in log


@pytest_asyncio.fixture(loop_scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that keeps no connection."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session
