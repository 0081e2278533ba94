"""The ledger's database: whose it is, what is refused, its schema over the years."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from gateway.payments.database import Database, ledger_url
from gateway.payments.errors import LedgerBusy, LedgerError
from gateway.payments.ledger import Ledger
from gateway.payments.migrations import MIGRATIONS
from gateway.payments.schema import metadata
from tests.payments.ledgers import credited


@pytest.mark.asyncio
async def test_a_second_gateway_is_told_that_the_ledger_is_in_use(where: str) -> None:
    first = await Ledger.open(where)
    with pytest.raises(LedgerBusy, match="in use by another gateway"):
        await Ledger.open(where)
    await first.close()
    again = await Ledger.open(where)
    await again.close()
    await again.close()


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('0099')")
    connection.close()


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database, whatever its name says" * 100)


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("spoil", "words"),
    [(_newer, "schema version 0099"), (_garbage, "not a database"), (_folder, "unable to open")],
)
async def test_a_file_that_is_not_a_ledger_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "ledger.sqlite3"
    spoil(path)
    for _ in range(2):  # the second time shows that the lock was given back
        with pytest.raises(LedgerError, match=words):
            await Ledger.open(path)


@pytest.mark.asyncio
@pytest.mark.parametrize("url", ["mysql://host/ledger", "sqlite://", "x://["])
async def test_a_url_that_is_not_a_ledger_is_refused(url: str) -> None:
    with pytest.raises(LedgerError, match="path, sqlite"):
        await Ledger.open(url)


def _revision(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")]


@pytest.mark.asyncio
async def test_a_ledger_from_before_revisions_keeps_its_rows_and_gets_the_new_columns(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((Path(__file__).parents[1] / "data" / "ledger-version-1.sql").read_text())
    for _ in range(2):
        ledger = await Ledger.open(path)
        (session,) = [session async for session in ledger.reader.sessions()]
        assert await credited(ledger, "cam") == 3 * 10**15
        assert session.closed is not None
        assert session.closed["owed"] is None
        assert session.row["price"] == 10**15
        await ledger.close()
    newest = sorted(path.name for path in (MIGRATIONS / "versions").glob("r*.py"))[-1]
    assert _revision(path) == [newest[1:5]]


@pytest.mark.asyncio
@pytest.mark.filterwarnings(
    # on SQLite; test_migrations.py looks for that index by name
    "ignore:Skipped unsupported reflection of expression-based index",
    "ignore:autogenerate skipping metadata-specified expression-based index",
)
async def test_the_tables_after_all_revisions_are_those_of_the_schema(where: str) -> None:
    await (await Ledger.open(where)).close()
    database = await Database.open(where)
    differences = await database.read(
        lambda connection: compare_metadata(MigrationContext.configure(connection), metadata)
    )
    await database.close()
    assert differences == []


@pytest.mark.asyncio
async def test_the_error_for_an_unreachable_server_does_not_show_the_password(tmp_path: Path) -> None:
    with pytest.raises(LedgerError) as refused:
        await Ledger.open(f"postgresql://gateway:secret@/ledger?host={tmp_path}")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("where", "driver"),
    [
        ("postgresql://me@host/ledger", "postgresql+asyncpg"),
        ("sqlite:////var/lib/ledger", "sqlite"),
        ("/var/lib/ledger", "sqlite"),
    ],
)
def test_each_form_of_the_flag_names_its_database(where: str, driver: str) -> None:
    assert ledger_url(where).drivername == driver
