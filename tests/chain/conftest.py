"""A chain for tests: one deployment for the whole run, each test's changes undone after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
import pytest_asyncio

from gateway.chain.networks import ChainNetwork
from gateway.chain.reader import ChainReader
from gateway.chain.rpc import Endpoints
from gateway.devnet.chain.evm import ETHER, Evm
from gateway.devnet.chain.server import ChainConfig, ChainServer


@pytest.fixture(scope="session")
def deployed() -> Evm:
    """Deployed once; not to be used by tests themselves."""
    return Evm()


@pytest.fixture
def evm(deployed: Evm) -> Iterator[Evm]:
    """A fresh chain: contracts deployed, nobody registered, nobody funded."""
    fresh = deployed.tester.take_snapshot()
    yield deployed
    deployed.tester.revert_to_snapshot(fresh)


@pytest_asyncio.fixture
async def server(evm: Evm) -> AsyncIterator[ChainServer]:
    """The fresh chain behind its port."""
    server = ChainServer(ChainConfig(deposit=10 * ETHER, reserve=ETHER), evm)
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def network(evm: Evm) -> ChainNetwork:
    return ChainNetwork(controller=evm.controller.address)


@pytest.fixture
def reader(server: ChainServer, http: aiohttp.ClientSession, network: ChainNetwork) -> ChainReader:
    return ChainReader(Endpoints(http, [server.url]), network)
