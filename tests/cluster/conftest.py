from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.nats import NatsServer, nats_server


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsServer]:
    with nats_server() as server:
        yield server
