"""The ledger in an SQLite file: its lock, its permissions, a thread for writing and one for reading.

In WAL mode a reader sees the state when it began, and neither waits for the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from gateway.payments.errors import LedgerBusy, LedgerError
from gateway.private_files import make_file, make_folder, restrict

BUSY_TIMEOUT_MS = 5000
"""How long SQLite waits for another process's lock on the file."""
CACHE_KIB = 512
"""SQLite's own page cache; small, since the kernel caches the file as well."""
MIGRATION_CACHE_KIB = 64 * 1024
"""The same while the schema is migrated."""
BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite makes beside a file, with that file's permissions."""

T = TypeVar("T")


class SqliteStore:
    """An open file. `writer` is None for one that is only read."""

    def __init__(self, reader: Engine, writer: Engine | None, lock: TextIO | None) -> None:
        self._reader = _Thread(reader, "ledger reader")
        self._writer = None if writer is None else _Thread(writer, "ledger writer")
        self._lock = lock

    @classmethod
    async def open(cls, path: Path, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> SqliteStore:
        """Open or make the file as the only gateway. Raises LedgerBusy, LedgerError."""
        lock = _lock_file(path)
        store = cls(_reading(path, busy_timeout_ms), _writing(path, busy_timeout_ms), lock)
        try:
            await store.write(lambda connection: None)
            await store.read(lambda connection: None)
        except SQLAlchemyError as error:
            await store.close()
            cause = getattr(error, "orig", None) or error
            raise LedgerError(f"the ledger {path} cannot be used: {cause}") from error
        except BaseException:
            await store.close()
            raise
        return store

    @classmethod
    def open_to_read(cls, path: Path) -> SqliteStore:
        """Open a file that somebody else may write to. Raises LedgerError where there is none."""
        if not path.is_file():
            raise LedgerError(f"there is no ledger at {path}")
        return cls(_reading(path, BUSY_TIMEOUT_MS), None, None)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction of the reading thread."""
        return await self._reader.run(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction of the writing thread."""
        assert self._writer is not None, "this ledger was opened to read"
        return await self._writer.run(work)

    async def migrate(self, work: Callable[[Connection], bool]) -> None:
        """Run `work`; where it says that it moved much, give the room that is free now back to the disk."""
        assert self._writer is not None, "this ledger was opened to read"
        await self._writer.run(
            lambda connection: _set_cache(connection, MIGRATION_CACHE_KIB), transaction=False
        )
        if await self.write(work):
            with contextlib.suppress(sqlite3.OperationalError):  # a full disk
                await self._writer.run(lambda connection: _execute(connection, "VACUUM"), transaction=False)
        await self._writer.run(lambda connection: _set_cache(connection, CACHE_KIB), transaction=False)

    async def close(self) -> None:
        """Close both connections and release the lock."""
        await self._reader.close()
        if self._writer is not None:
            await self._writer.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None


class _Thread:
    """One connection and the one thread that uses it."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._connection: Connection | None = None

    async def run(self, work: Callable[[Connection], T], *, transaction: bool = True) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._run, work, transaction)

    def _run(self, work: Callable[[Connection], T], transaction: bool) -> T:
        if self._connection is None:
            self._connection = self._engine.connect()
        if not transaction:
            return work(self._connection)
        with self._connection.begin():
            return work(self._connection)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._engine.dispose()

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)
        self._executor.shutdown()


def _writing(path: Path, busy_timeout_ms: int) -> Engine:
    def configure(cursor: Any) -> None:
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # a payment is on disk before it is spent
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA secure_delete=OFF")  # zeros over what is removed: some builds write them

    url = URL.create("sqlite", database=str(path))
    return _engine(url, busy_timeout_ms, "BEGIN IMMEDIATE", configure)


def _reading(path: Path, busy_timeout_ms: int) -> Engine:
    query = {"mode": "ro", "uri": "true"}
    url = URL.create("sqlite", database=f"file:{path.absolute()}", query=query)
    return _engine(url, busy_timeout_ms, "BEGIN", lambda cursor: None)


def _engine(url: URL, busy_timeout_ms: int, begin: str, configure: Callable[[Any], Any]) -> Engine:
    engine = create_engine(url, pool_size=1, max_overflow=0)

    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # we begin all transactions ourselves, for schema changes too
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={busy_timeout_ms}")
        cursor.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        configure(cursor)
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _set_cache(connection: Connection, kib: int) -> None:
    _execute(connection, f"PRAGMA cache_size=-{kib}")


def _execute(connection: Connection, statement: str) -> None:
    """Run a statement outside of transactions."""
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.execute(statement).close()


def _lock_file(path: Path) -> TextIO:
    """Lock a file beside the ledger, until the process ends, and make both private."""
    beside = path.with_name(path.name + ".lock")
    try:
        make_folder(path.parent)
        make_file(beside)
        lock = beside.open("w")
    except OSError as error:
        raise LedgerError(f"the ledger {path} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.is_dir():
            make_file(path)
        for name in BESIDE:
            restrict(path.with_name(path.name + name))
    except BlockingIOError as error:
        lock.close()
        raise LedgerBusy(
            f"the ledger {path} is in use by another gateway: stop that one, or start this one with another "
            "-ledger"
        ) from error
    except OSError as error:
        lock.close()
        raise LedgerError(f"the ledger {path} cannot be written: {error.strerror}") from error
    return lock
