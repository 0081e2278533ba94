"""An orchestrator of live runners with a signer, and the gateway's client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.runner.client import RunnerClient
from tests.devnet.live_kit import Live, live


@pytest_asyncio.fixture(params=["go", "node"])
async def network(request: pytest.FixtureRequest) -> AsyncIterator[Live]:
    async with live(request.param) as running:
        yield running


@pytest_asyncio.fixture
async def client(network: Live) -> AsyncIterator[RunnerClient]:
    made = RunnerClient(sender=network.signer.address)
    yield made
    await made.close()
