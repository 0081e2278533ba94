from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.postgresql import PostgresqlServer, postgresql_server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    with postgresql_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new ledger is to be, as `-ledger` takes it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return server.database()
