"""The ledger's file: who may read it, and that readers and the writer do not wait for each other."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from gateway.payments.database import Database
from gateway.payments.ledger import Ledger
from tests.payments.ledgers import record

pytestmark = pytest.mark.asyncio


def modes(folder: Path) -> dict[str, str]:
    return {path.name: f"{path.stat().st_mode & 0o777:o}" for path in sorted(folder.iterdir())}


async def test_the_ledger_and_what_lies_beside_it_is_its_owners_alone(tmp_path: Path) -> None:
    os.umask(0o022)
    folder = tmp_path / "made" / "here"
    ledger = await Ledger.open(folder / "ledger.sqlite3")
    await ledger.open_session(record("one"))
    names = ("ledger.sqlite3", "ledger.sqlite3-shm", "ledger.sqlite3-wal", "ledger.sqlite3.lock")
    assert modes(folder) == dict.fromkeys(names, "600")
    assert modes(tmp_path) == {"made": "700"}
    assert modes(tmp_path / "made") == {"here": "700"}
    await ledger.close()


async def test_an_older_ledger_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE unrelated (a)")
        connection.commit()
        for part in tmp_path.iterdir():
            part.chmod(0o644)
        (tmp_path / "ledger.sqlite3.lock").touch(0o644)
        ledger = await Ledger.open(path)
        assert set(modes(tmp_path).values()) == {"600"}
        await ledger.close()


async def test_a_folder_that_was_there_keeps_its_permissions(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o750)
    await (await Ledger.open(folder / "ledger.sqlite3")).close()
    assert modes(tmp_path) == {"shared": "750"}


async def test_a_reader_that_takes_long_keeps_no_line_waiting_and_sees_one_state(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "ledger.sqlite3")
    ledger = await Ledger.start(database)
    await ledger.open_session(record("before"))
    reading, written = threading.Event(), threading.Event()

    def read(connection: Connection) -> list[int]:
        count = text("SELECT count(*) FROM sessions")
        before = connection.execute(count).scalar_one()
        reading.set()
        assert written.wait(30)
        return [before, connection.execute(count).scalar_one()]

    answer = asyncio.get_running_loop().create_task(database.read(read))
    await asyncio.to_thread(reading.wait, 30)
    await ledger.open_session(record("meanwhile"))
    written.set()
    assert await answer == [1, 1]
    assert len([session async for session in ledger.reader.sessions()]) == 2
    await ledger.close()


async def test_who_reads_cannot_write(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "ledger.sqlite3")
    with pytest.raises(Exception, match="readonly"):
        await database.read(lambda connection: connection.execute(text("DELETE FROM sessions")))
    await database.close()
