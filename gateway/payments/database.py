"""The ledger's database, SQLite or PostgreSQL: opening, schema, transactions."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import URL, Connection, Select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from gateway.payments.errors import LedgerError, translated
from gateway.payments.migrations import check_schema, migrate
from gateway.payments.sqlite_store import BUSY_TIMEOUT_MS, SqliteStore
from gateway.payments.timebase import NANOSECONDS

if TYPE_CHECKING:
    from gateway.payments.postgresql_store import PostgresqlStore

_ACCEPTED = "it takes a path, sqlite:///path or postgresql://user@host/database"

PIECE = 50
"""Rows that are read without a rest: about a millisecond."""
RESTING = 2
"""Who reads beside a writer rests so much longer than it computes."""
LONGEST_REST = NANOSECONDS // 50

T = TypeVar("T")


class Database:
    """An open database. Make one with `Database.open` or `Database.open_to_read`.

    `read` and `write` run plain functions of a connection, each in a transaction. What reads runs in a thread
    of its own, one at a time: it should be short, a page rather than a table.
    """

    def __init__(
        self, store: SqliteStore | PostgresqlStore, *, beside_writer: bool = False, node: str | None = None
    ) -> None:
        self.node = node
        """The name of this node of a cluster, whose others write to it too; None for a single gateway."""
        self._store = store
        self._rest = Rest() if beside_writer else None
        self._closed = False

    @classmethod
    async def open(
        cls, where: str | Path, *, node: str | None = None, busy_timeout_ms: int = BUSY_TIMEOUT_MS
    ) -> Database:
        """Open the database for writing, and migrate its schema to the newest revision.

        As the only gateway, or as the `node` of this name. Raises LedgerBusy while another gateway uses it,
        or another node of that name; LedgerError for everything else.
        """
        url = ledger_url(where)
        if node is not None and url.get_backend_name() == "sqlite":
            raise LedgerError("a cluster's ledger is on PostgreSQL: -ledger postgresql://user@host/database")
        store: SqliteStore | PostgresqlStore
        if url.get_backend_name() == "sqlite":
            store = await SqliteStore.open(Path(str(url.database)), busy_timeout_ms=busy_timeout_ms)
        else:
            store = await _postgresql_store().open(url, node)
        try:
            with translated():
                await store.migrate(migrate)
        except BaseException:
            await store.close()
            raise
        return cls(store, beside_writer=True, node=node)

    @classmethod
    async def open_to_read(cls, where: str | Path) -> Database:
        """Open the database for reading; a gateway may write to it meanwhile. Raises LedgerError."""
        url = ledger_url(where)
        store: SqliteStore | PostgresqlStore
        if url.get_backend_name() == "sqlite":
            store = SqliteStore.open_to_read(Path(str(url.database)))
        else:
            store = _postgresql_store()(url)
        database = cls(store)
        try:
            await database.read(check_schema)
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Close all connections and release the lock."""
        if not self._closed:
            self._closed = True
            await self._store.close()

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` gives, in a transaction for reading that waits for no writer. Raises LedgerError."""
        self._check_open()
        with translated():
            return await self._store.read(
                lambda connection: work(connection.execution_options(rest=self._rest))
            )

    async def rows(self, query: Select[Any]) -> list[dict[str, Any]]:
        """What a query gives, a mapping of its columns for each row. Raises LedgerError."""
        return await self.read(lambda connection: rows_of(connection, query))

    async def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` gives, in a transaction that is committed at its end. One at a time.

        Raises LedgerUnavailable where the database fails, LedgerError where it refused what was written.
        """
        self._check_open()
        with translated():
            return await self._store.write(work)

    def _check_open(self) -> None:
        if self._closed:
            raise LedgerError("the ledger is closed")


class Rest:
    """Has the one thread that calls it sleep in proportion to what it computed since the last call."""

    def __init__(self) -> None:
        self._computed = 0

    def __call__(self) -> None:
        computed = time.thread_time_ns() - self._computed
        time.sleep(min(LONGEST_REST, RESTING * computed) / NANOSECONDS)
        self._computed = time.thread_time_ns()


def _postgresql_store() -> type[PostgresqlStore]:
    """Imported where it is used: what it needs of SQLAlchemy takes a tenth of a second."""
    from gateway.payments.postgresql_store import PostgresqlStore

    return PostgresqlStore


def rows_of(connection: Connection, query: Select[Any]) -> list[dict[str, Any]]:
    """What a query gives, a mapping of its columns for each row.

    Beside a writer it rests now and then: a thread that computes keeps that one and the event loop waiting.
    """
    rest, rows = connection.get_execution_options().get("rest"), list[dict[str, Any]]()
    for piece in connection.execute(query).mappings().partitions(PIECE):
        if rest is not None:
            rest()
        rows += [dict(row) for row in piece]
    return rows


def ledger_url(where: str | Path) -> URL:
    """Where the ledger is, from `-ledger`: a path or a URL. Raises LedgerError."""
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite", database=str(where))
    try:
        url = make_url(where)
    except (ArgumentError, ValueError) as error:
        raise LedgerError(f"the ledger's URL is not valid: {_ACCEPTED}") from error
    match url.get_backend_name():
        case "sqlite" if url.database:
            return url.set(drivername="sqlite")
        case "postgresql" | "postgres" if url.database:
            return url.set(drivername="postgresql+asyncpg")
        case _:
            raise LedgerError(f"{url.drivername} is not supported for the ledger: {_ACCEPTED}")
