"""Lines that are written together, and a database that fails: a full disk, a lock, a server that is away."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Insert, insert

from gateway.payments.books import Books
from gateway.payments.database import Database
from gateway.payments.errors import LedgerBusy, LedgerError, LedgerUnavailable
from gateway.payments.ledger import Ledger
from gateway.payments.ledger_writer import WriterTiming
from gateway.payments.schema import incidents
from harness.postgresql import PostgresqlServer
from harness.waiting import eventually
from tests.payments.ledgers import history
from tests.payments.test_ledger import record

NO_RETRIES = WriterTiming(write_timeout=0)


@pytest.mark.asyncio
async def test_an_unexpected_error_while_writing_is_raised_and_the_next_write_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    session = await ledger.open_session(record())
    with monkeypatch.context() as patch:
        patch.setattr(Books, "ask", lambda *_: 1 / 0)
        with pytest.raises(LedgerError, match="ZeroDivisionError"):
            await ledger.intended(session, 1)
    await ledger.intended(session, 1)
    await ledger.close()


@pytest.mark.asyncio
async def test_writes_at_once_are_all_written(where: str) -> None:
    ledger = await Ledger.open(where)
    async with asyncio.TaskGroup() as group:
        for number in range(300):
            group.create_task(ledger.open_session(record(f"{number}")))
    assert len([session async for session in ledger.reader.sessions()]) == 300
    await ledger.close()


def incident(**values: Any) -> Insert:
    row = {"run": "r", "detail": "", "began_wall_ns": 1, "wall_ns": 2, "monotonic_ns": 3}
    return insert(incidents).values(row | values)


@pytest.mark.asyncio
async def test_a_row_that_is_refused_concerns_nobody_else(where: str) -> None:
    ledger = await Ledger.open(where)
    session = await ledger.open_session(record())
    results = await asyncio.gather(
        ledger.open_session(record("one")),
        ledger.intended("no such session", 1),
        ledger.execute(incident(detail=None)),
        ledger.intended(session, 1),
        ledger.execute(incident(wall_ns=2**70)),
        return_exceptions=True,
    )
    assert [isinstance(result, LedgerError) for result in results] == [False, True, True, False, True]
    assert [isinstance(result, LedgerUnavailable) for result in results] == [False] * 5
    assert ledger.trouble is None
    assert await history(ledger, session) == ["intended"]
    assert len([one async for one in ledger.reader.sessions()]) == 2
    await ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        await ledger.intended(session, 2)


@pytest.mark.asyncio
@pytest.mark.parametrize("detail", ["a zero \0 in it", "half a character: \ud800"])
async def test_text_that_a_server_does_not_take_is_no_trouble_of_the_server(
    postgresql: PostgresqlServer, detail: str
) -> None:
    ledger = await Ledger.open(postgresql.database(), NO_RETRIES)
    with pytest.raises(LedgerError, match="refused a row") as refused:
        await ledger.execute(incident(detail=detail))
    assert not isinstance(refused.value, LedgerUnavailable)
    assert ledger.trouble is None
    await ledger.open_session(record())
    await ledger.close()


@pytest.mark.asyncio
async def test_a_full_disk_stops_writes_until_there_is_room_and_adds_an_incident(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "ledger.sqlite3")
    ledger = await Ledger.start(database, WriterTiming(write_timeout=0, probe_interval=50_000_000))
    session = await ledger.open_session(record())
    assert ledger.trouble is None
    await _limit_pages(database, 1)
    with pytest.raises(LedgerUnavailable, match="full"):
        for number in range(1, 200):
            await ledger.lost(session, number, None, "x" * 4000)
    assert ledger.trouble is not None
    assert "full" in ledger.trouble
    await _limit_pages(database, 10**6)
    await eventually(lambda: ledger.trouble is None, what="the ledger's recovery")
    await ledger.intended(session, 1)
    await ledger.close()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as connection:
        ((detail, began, ended),) = connection.execute("SELECT detail, began_wall_ns, wall_ns FROM incidents")
    assert "full" in detail
    assert began < ended


async def _limit_pages(database: Database, pages: int) -> None:
    """Let SQLite run out of pages, as on a full disk."""
    await database.write(
        lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").close()
    )


@pytest.mark.asyncio
async def test_a_locked_file_stops_writes_until_it_is_unlocked(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "ledger.sqlite3", busy_timeout_ms=50)
    ledger = await Ledger.start(database, NO_RETRIES)
    session = await ledger.open_session(record())
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as somebody:
        somebody.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match="locked"):
            await ledger.intended(session, 1)
        assert ledger.trouble is not None
        somebody.rollback()
    await ledger.intended(session, 1)
    assert ledger.trouble is None
    await ledger.close()


@pytest.mark.asyncio
async def test_a_write_is_retried_while_the_database_fails(tmp_path: Path) -> None:
    ledger = await Ledger.start(await Database.open(tmp_path / "ledger.sqlite3", busy_timeout_ms=50))
    session = await ledger.open_session(record())
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as somebody:
        somebody.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable):
            await ledger.check()
        writing = asyncio.get_running_loop().create_task(ledger.intended(session, 1))
        await eventually(lambda: ledger.trouble is not None, what="the trouble")
        assert not writing.done()
        somebody.rollback()
    await writing
    assert ledger.trouble is None
    await ledger.close()


@pytest.mark.asyncio
async def test_after_a_restart_of_the_server_the_same_gateway_writes_and_no_other(
    postgresql: PostgresqlServer,
) -> None:
    where = postgresql.database()
    ledger = await Ledger.open(where, NO_RETRIES)
    session = await ledger.open_session(record())
    postgresql.stop()
    with pytest.raises(LedgerUnavailable):
        await ledger.intended(session, 1)
    assert ledger.trouble is not None
    postgresql.start()
    await eventually(lambda: ledger.trouble is None, what="the ledger's recovery")
    with pytest.raises(LedgerBusy):
        await Ledger.open(where)
    await ledger.intended(session, 1)
    assert await history(ledger) == ["intended"]
    await ledger.close()
