"""The ledger on a PostgreSQL server: a connection that holds the lock and writes, and one that reads."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from types import MappingProxyType
from typing import TypeVar

from sqlalchemy import URL, Connection, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from gateway.payments.errors import POOLER, LedgerBusy, LedgerUnavailable, translated

TIMEOUT = 10
"""Seconds to connect, and for each statement."""
ADVISORY_LOCK = 0x6C697665_70656572
"""Key of the advisory lock that a gateway holds on a database, and a cluster's nodes share: "livepeer" in
ASCII."""
MIGRATION_LOCK = 0x6C697665_6D696772
"""Key of the advisory lock for a migration: "livemigr" in ASCII."""
OF_NODES = {
    "default_transaction_isolation": "read committed",  # each statement sees what was committed before it
    "idle_in_transaction_session_timeout": "5000",  # a node that hangs keeps the others waiting for so long
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""Settings of the server for the connection of a node that writes. Milliseconds, then seconds."""
POOLER_CHECKS = 3
"""How often connections are compared: other clients of a pooler may hide it once."""

T = TypeVar("T")


class PostgresqlStore:
    """An open database."""

    def __init__(self, url: URL, node: str | None = None) -> None:
        self._url = url
        self._node = node
        self._engine = _engine(url, settings={} if node is None else OF_NODES)
        self._writer: AsyncConnection | None = None
        self._reader = _ReadingThread(url)

    @classmethod
    async def open(cls, url: URL, node: str | None = None) -> PostgresqlStore:
        """Open it as the only gateway, or as the node of this name. Raises LedgerBusy, LedgerError."""
        store = cls(url, node)
        try:
            with translated():
                store._writer = await store._locked_connection()
        except BaseException:
            await store.close()
            raise
        return store

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction of the reading thread."""
        return await self._reader.run(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction on the connection that holds the lock: who lost it cannot write."""
        try:
            if self._writer is None:
                self._writer = await self._locked_connection()
            async with self._writer.begin():
                return await self._writer.run_sync(work)
        except BaseException as error:
            if not _is_of_a_row(error):
                await self._drop_writer()
            raise

    async def migrate(self, work: Callable[[Connection], bool]) -> None:
        """Run `work`, whose statements may take as long as they need, in a transaction."""
        engine = _engine(self._url, timeout=None)
        try:
            async with engine.begin() as connection:
                await connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
                if await connection.run_sync(work):
                    await connection.exec_driver_sql("ANALYZE")  # the planner does not know the new tables
        finally:
            await engine.dispose()

    async def close(self) -> None:
        """Close all connections, which releases the lock."""
        await self._reader.close()
        await self._drop_writer()
        await self._engine.dispose()

    async def _locked_connection(self) -> AsyncConnection:
        await self._check_for_pooler()
        async with AsyncExitStack() as stack:
            connection = await self._engine.connect()
            stack.push_async_callback(connection.close)
            try:
                await _lock(connection, self._node)
            except LedgerBusy:
                await connection.invalidate()  # it may hold one of two
                raise
            await connection.commit()
            stack.pop_all()
            return connection

    async def _check_for_pooler(self) -> None:
        """LedgerUnavailable behind a pooler in transaction mode, where a lock is nobody's.

        A connection has a server process of its own and keeps it; there, a transaction gets one that is free.
        """
        process = select(func.pg_backend_pid())
        async with self._engine.connect() as one, self._engine.connect() as other:
            for _ in range(POOLER_CHECKS):
                before = await one.scalar(process)
                await one.commit()
                meanwhile = await other.scalar(process)
                after = await one.scalar(process)
                await one.rollback()
                await other.rollback()
                if before == meanwhile or before != after:
                    raise LedgerUnavailable(POOLER)

    async def _drop_writer(self) -> None:
        """Close the connection that holds the lock, which releases it."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with _ignored():
                await writer.invalidate()
            with _ignored():
                await writer.close()


class _ReadingThread:
    """One connection, on an event loop of its own: rows by the thousand keep the gateway's loop waiting."""

    def __init__(self, url: URL) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger reader")
        self._url = url
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine: AsyncEngine | None = None

    async def run(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._run, work)

    def _run(self, work: Callable[[Connection], T]) -> T:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._engine = _engine(self._url)
        return self._loop.run_until_complete(self._read(work))

    async def _read(self, work: Callable[[Connection], T]) -> T:
        assert self._engine is not None
        async with self._engine.connect() as connection:
            # one state of the database for all statements
            await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            async with connection.begin():
                return await connection.run_sync(work)

    def _close(self) -> None:
        if self._loop is not None and self._engine is not None:
            self._loop.run_until_complete(self._engine.dispose())
            self._loop.close()

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)
        self._executor.shutdown()


async def _lock(connection: AsyncConnection, node: str | None) -> None:
    """Take the gateway's locks, which the connection holds. Raises LedgerBusy."""
    if node is None:
        if not await connection.scalar(select(func.pg_try_advisory_lock(ADVISORY_LOCK))):
            raise LedgerBusy(
                "the ledger's database is in use by another gateway: stop that one, or start this one "
                "with another -ledger"
            )
        return
    if not await connection.scalar(select(func.pg_try_advisory_lock_shared(ADVISORY_LOCK))):
        raise LedgerBusy("the ledger's database is in use by a gateway without -cluster: stop that one")
    if not await connection.scalar(select(func.pg_try_advisory_lock(node_key(node)))):
        raise LedgerBusy(
            f"the ledger's database is in use by another node named {node}: give each its own -nodeName"
        )


def node_key(node: str) -> int:
    """Key of the advisory lock of the node of this name: a signed number of 64 bits."""
    digest = hashlib.blake2b(node.encode(), digest_size=8, person=b"livepeer node").digest()
    return int.from_bytes(digest, "big", signed=True)


def _engine(
    url: URL, timeout: int | None = TIMEOUT, settings: Mapping[str, str] = MappingProxyType({})
) -> AsyncEngine:
    arguments = {"timeout": TIMEOUT, "command_timeout": timeout, "server_settings": dict(settings)}
    if timeout is None:
        return create_async_engine(url, poolclass=NullPool, connect_args=arguments)
    # an idle connection does not notice that the server has gone
    return create_async_engine(url, pool_size=2, max_overflow=0, pool_pre_ping=True, connect_args=arguments)


def _is_of_a_row(error: BaseException) -> bool:
    """Whether the connection is as good as before: the error was a row's, or of our own making."""
    try:
        with translated():
            raise error
    except LedgerUnavailable:
        return False
    except Exception:
        return True
    except BaseException:
        return False


@contextmanager
def _ignored() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError):
        return
