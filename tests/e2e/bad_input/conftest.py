"""Input from strangers, broken programs and a hostile network: answered, with nothing left behind.

`test_requests.py` has HTTP, `test_media.py` WebRTC, `test_surroundings.py` orchestrators, signer and disk,
`test_start.py` failed starts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from harness.gateway import IDLE_CONNECTIONS, GatewayProcess, gateway_process
from harness.waiting import DEADLINE

CONNECT_TIMEOUT = 2
"""Seconds that a client may take to connect."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    flags = ("-connectTimeout", f"{CONNECT_TIMEOUT}s", "-ingestTimeout", "1s")
    async with gateway_process(tmp_path_factory.mktemp("bad"), *flags) as gateway:
        before = await gateway.holds()
        yield gateway
        before["fds"] += IDLE_CONNECTIONS
        await gateway.given_back(before, after="all of it")


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(daemon: GatewayProcess) -> AsyncIterator[GatewayProcess]:
    """The daemon; afterwards it holds nothing for a stream, and has nothing open at the orchestrator."""
    sessions = [set(audit["sessions"]) for audit in await daemon.audits()]
    yield daemon

    await daemon.given_back()
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
    timeout = aiohttp.ClientTimeout(total=DEADLINE)
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield session
