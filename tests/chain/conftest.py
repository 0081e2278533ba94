"""A chain for tests: one deployment for the whole run, each test's changes undone after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.devnet.chain.evm import Evm


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
