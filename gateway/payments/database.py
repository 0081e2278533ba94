"""The ledger's database, SQLite or PostgreSQL: opening, locking, transactions."""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import URL, Connection, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gateway.payments.errors import LedgerBusy, LedgerError, LedgerUnavailable
from gateway.payments.migrations import check_schema, migrate

BUSY_TIMEOUT_MS = 5000
"""How long SQLite waits for another process's lock on the file."""
SQLITE_CACHE_KIB = 512
"""SQLite's own page cache; small, since the kernel caches the file as well."""
POSTGRESQL_TIMEOUT = 10
"""Seconds to connect, and for each statement."""
ADVISORY_LOCK = 0x6C697665_70656572
"""Key of the advisory lock that a gateway holds on a PostgreSQL database: "livepeer" in ASCII."""

_ACCEPTED = "it takes a path, sqlite:///path or postgresql://user@host/database"


class Database:
    """An open database. Make one with `Database.open` or `Database.open_to_read`."""

    def __init__(self, engine: AsyncEngine, url: URL) -> None:
        self._engine = engine
        self._is_server = url.get_backend_name() == "postgresql"
        self._file_lock: TextIO | None = None
        self._writer: AsyncConnection | None = None
        self._closed = False

    @classmethod
    async def open(cls, where: str | Path, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> Database:
        """Open the database for writing, as the only gateway, and migrate its schema to the newest revision.

        Raises LedgerBusy while another gateway uses it, LedgerError for everything else.
        """
        url = ledger_url(where)
        database = cls(_engine(url, busy_timeout_ms), url)
        try:
            if not database._is_server:
                path = Path(str(url.database))
                database._file_lock = _lock_file(path)
                await asyncio.to_thread(_try_sqlite, path)
            async with database.writing() as connection:
                await connection.run_sync(migrate)
        except BaseException:
            await database.close()
            raise
        return database

    @classmethod
    async def open_to_read(cls, where: str | Path) -> Database:
        """Open the database for reading; a gateway may write to it meanwhile. Raises LedgerError."""
        url = ledger_url(where)
        if url.get_backend_name() == "sqlite":
            url = _read_only(url)
        database = cls(_engine(url, BUSY_TIMEOUT_MS, reads_only=True), url)
        try:
            async with database.reading() as connection:
                await connection.run_sync(check_schema)
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Close all connections and release the lock."""
        self._closed = True
        await self._drop_writer()
        await self._engine.dispose()
        if self._file_lock is not None:
            self._file_lock.close()
            self._file_lock = None

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for reading. The database's errors become LedgerError."""
        self._check_open()
        with _translated():
            async with self._engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for writing, committed at the end. One at a time.

        On a server it runs on the connection that holds the lock: a gateway that lost the lock cannot write.
        """
        self._check_open()
        if not self._is_server:
            async with self.reading() as connection:
                yield connection
            return
        with _translated():
            try:
                if self._writer is None:
                    self._writer = await self._locked_connection()
                async with self._writer.begin():
                    yield self._writer
            except IntegrityError:
                raise
            except BaseException:
                await self._drop_writer()
                raise

    def _check_open(self) -> None:
        if self._closed:
            raise LedgerError("the ledger is closed")

    async def _locked_connection(self) -> AsyncConnection:
        async with AsyncExitStack() as stack:
            connection = await self._engine.connect()
            stack.push_async_callback(connection.close)
            locked = await connection.scalar(select(func.pg_try_advisory_lock(ADVISORY_LOCK)))
            await connection.commit()
            if not locked:
                raise LedgerBusy(
                    "the ledger's database is in use by another gateway: stop that one, or start this one "
                    "with another -ledger"
                )
            stack.pop_all()
            return connection

    async def _drop_writer(self) -> None:
        """Close the connection that holds the lock, which releases it."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with _ignored():
                await writer.invalidate()
            with _ignored():
                await writer.close()


def ledger_url(where: str | Path) -> URL:
    """Where the ledger is, from `-ledger`: a path or a URL. Raises LedgerError."""
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite+aiosqlite", database=str(where))
    try:
        url = make_url(where)
    except (ArgumentError, ValueError) as error:
        raise LedgerError(f"the ledger's URL is not valid: {_ACCEPTED}") from error
    match url.get_backend_name():
        case "sqlite" if url.database:
            return url.set(drivername="sqlite+aiosqlite")
        case "postgresql" | "postgres" if url.database:
            return url.set(drivername="postgresql+asyncpg")
        case _:
            raise LedgerError(f"{url.drivername} is not supported for the ledger: {_ACCEPTED}")


def _read_only(url: URL) -> URL:
    path = Path(str(url.database))
    if not path.is_file():
        raise LedgerError(f"there is no ledger at {path}")
    return url.set(database=f"file:{path.absolute()}", query={"mode": "ro", "uri": "true"})


def _engine(url: URL, busy_timeout_ms: int, *, reads_only: bool = False) -> AsyncEngine:
    if url.get_backend_name() == "sqlite":
        return _sqlite(url, busy_timeout_ms, reads_only)
    # one connection writes and holds the lock, the others read
    return create_async_engine(
        url,
        pool_size=2,
        max_overflow=2,
        connect_args={"timeout": POSTGRESQL_TIMEOUT, "command_timeout": POSTGRESQL_TIMEOUT},
    )


def _sqlite(url: URL, busy_timeout_ms: int, reads_only: bool) -> AsyncEngine:
    """SQLite with its settings. One connection is enough for one writer and few readers."""
    engine = create_async_engine(url, pool_size=1, max_overflow=0)

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # we begin all transactions ourselves, for schema changes too
        cursor = connection.cursor()
        if not reads_only:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")  # a payment is on disk before it is spent
            cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA busy_timeout={busy_timeout_ms}")
        cursor.execute(f"PRAGMA cache_size=-{SQLITE_CACHE_KIB}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _lock_file(path: Path) -> TextIO:
    """Lock a file beside the ledger; the kernel releases it when the process ends."""
    beside = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = beside.open("w")
    except OSError as error:
        raise LedgerError(f"the ledger {path} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise LedgerBusy(
            f"the ledger {path} is in use by another gateway: stop that one, or start this one with another "
            "-ledger"
        ) from error
    return lock


def _try_sqlite(path: Path) -> None:
    """LedgerError where SQLite cannot use the file.

    Tried without aiosqlite, whose thread stays alive after a connection that failed.
    """
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL").close()
    except sqlite3.Error as error:
        raise LedgerError(f"the ledger {path} cannot be used: {error}") from error


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise LedgerError(f"the ledger refused a row: {error.orig or error}") from error
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise LedgerUnavailable(f"the ledger failed: {cause}") from error
    except OSError as error:
        raise LedgerUnavailable(f"the ledger failed: {error.strerror or error}") from error


@contextmanager
def _ignored() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError):
        return
