"""The ledger on a real file and on a real PostgreSQL server: the same code, the same tests."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from gateway.payments.database import Database, ledger_url
from gateway.payments.errors import LedgerBusy, LedgerError, LedgerUnavailable
from gateway.payments.job_identity import JobIdentity
from gateway.payments.ledger import Ledger, SessionRecord
from gateway.payments.ledger_reader import LedgerSession, Outcome
from gateway.payments.ledger_writer import Timing
from gateway.payments.migrations import MIGRATIONS
from gateway.payments.payment import Payment
from gateway.payments.verify import Verification
from gateway.reason import EndReason
from harness.payment_models import SENDER_TEXT, orchestrator_info, signed_payment
from harness.postgresql import PostgresqlServer
from harness.waiting import eventually
from tests.payments.ledgers import credited

NO_RETRIES = Timing(write_timeout=0)


def record(stream_id: str = "cam") -> SessionRecord:
    return SessionRecord(
        job=JobIdentity(stream="cam", stream_id=stream_id, request_id="r1", addr="127.0.0.1:8935"),
        sender=SENDER_TEXT,
        orchestrator_address="0x00",
        orchestrator_url="https://127.0.0.1:8935",
        price=Fraction(10**15 + 1, 3),
        ceiling=None,
        interval_ns=5 * 10**9,
    )


def payment(ticket_wei: int = 10**15, tickets: int = 3, first_nonce: int = 1) -> Payment:
    info = orchestrator_info(price=ticket_wei)
    return Payment.read(signed_payment(info, first_nonce, tickets))


async def sign(ledger: Ledger, session: str, number: int, made: Payment) -> None:
    await ledger.intended(session, number)
    await ledger.signed(session, number, made, manifest_id="m", price=Fraction(10**15))
    await ledger.delivered(session, number)


async def accounts(ledger: Ledger, **wanted: Any) -> list[LedgerSession]:
    return [account async for account in ledger.reader.sessions(**wanted)]


async def steps_of(ledger: Ledger, session: str) -> list[dict[str, Any]]:
    (account,) = [account for account in await accounts(ledger) if account.row["id"] == session]
    steps = [*account.steps, *(step for paid in account.payments for step in paid.steps)]
    return sorted(steps, key=lambda step: step["id"])


@pytest.mark.asyncio
async def test_the_steps_of_a_session_are_in_order(where: str) -> None:
    ledger = await Ledger.open(where)
    session = await ledger.open_session(record())
    await sign(ledger, session, 1, payment())
    await ledger.unknown(session, 1, "reset")
    await ledger.delivered(session, 1, "attempt 2")
    await ledger.credited(session, 1)
    await ledger.intended(session, 2)
    await ledger.close_session(session, EndReason.PUBLISHER_LEFT, owed=Fraction(1, 3))
    steps = await steps_of(ledger, session)
    (account,) = await accounts(ledger)
    await ledger.close()
    assert [step["step"] for step in steps] == [
        "intended", "signed", "delivered", "unknown", "delivered", "credited", "intended", "closed",
    ]  # fmt: skip
    assert (steps[-1]["reason"], steps[-1]["owed"]) == ("publisher_left", Fraction(1, 3))
    assert all(step["wall_ns"] > 10**18 and step["monotonic_ns"] > 0 for step in steps)
    assert account.row["price"] == Fraction(10**15 + 1, 3)
    assert account.row["ceiling"] is None
    (paid,) = account.payments
    assert (paid.row["tickets"], paid.row["first_nonce"], paid.row["last_nonce"]) == (3, 1, 3)
    assert paid.row["win_prob"] == 2**256 - 1


@pytest.mark.asyncio
async def test_a_hundred_eth_and_a_third_of_a_wei_are_kept_exactly(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    session = await ledger.open_session(record())
    await sign(ledger, session, 1, payment(ticket_wei=100 * 10**18, tickets=7))
    await ledger.credited(session, 1)
    assert await credited(ledger) == 700 * 10**18
    await ledger.close()
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as connection:
        stored = connection.execute("SELECT face_value, typeof(face_value) FROM payments").fetchone()
        price = connection.execute("SELECT price FROM sessions").fetchone()
    connection.close()
    assert stored == (str(100 * 10**18), "text")
    assert price == ("1000000000000001/3",)


@pytest.mark.asyncio
async def test_only_what_was_credited_counts_once_and_by_stream(where: str) -> None:
    ledger = await Ledger.open(where)
    one, two = await ledger.open_session(record("one")), await ledger.open_session(record("two"))
    for session in (one, two):
        for number in (1, 2, 3):
            await sign(ledger, session, number, payment(first_nonce=10 * number))
        await ledger.credited(session, 1)
        await ledger.credited(session, 1, "already seen")
        await ledger.refused(session, 2, "403")
        await ledger.unknown(session, 3, "time-out")
    await ledger.credited(two, 3)
    assert await credited(ledger, "one") == 3 * 10**15
    assert await credited(ledger, "two") == 6 * 10**15
    assert await credited(ledger) == 9 * 10**15
    assert await credited(ledger, "three") == 0
    assert len(await accounts(ledger, stream="one")) == 1
    await ledger.close()


@pytest.mark.asyncio
async def test_a_second_gateway_is_told_that_the_ledger_is_in_use(where: str) -> None:
    first = await Ledger.open(where)
    with pytest.raises(LedgerBusy, match="in use by another gateway"):
        await Ledger.open(where)
    await first.close()
    again = await Ledger.open(where)
    await again.close()
    await again.close()


@pytest.mark.asyncio
async def test_a_session_that_a_crash_left_open_is_closed_at_the_next_start(where: str) -> None:
    ledger = await Ledger.open(where)
    session = await ledger.open_session(record())
    closed = await ledger.open_session(record())
    await ledger.close_session(closed, EndReason.DELETED)
    await ledger.close()
    for _ in range(2):
        ledger = await Ledger.open(where)
        (step,) = await steps_of(ledger, session)
        assert (step["step"], step["reason"]) == ("closed", "internal_error")
        assert "found open" in step["detail"]
        assert len(await steps_of(ledger, closed)) == 1
        await ledger.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("lines", "sums"),
    [
        (0, (0, 0, 0)),  # credited, uncertain, unspent tickets
        (1, (0, 0, 0)),
        (2, (0, 0, 60)),
        (3, (0, 60, 0)),
        (4, (60, 0, 0)),
        (5, (60, 0, 0)),
        (6, (60, 0, 2)),
        (7, (60, 2, 0)),
        (8, (60, 2, 0)),
        (9, (60, 2, 0)),
        (10, (62, 0, 0)),
        (11, (62, 0, 0)),
    ],
)
async def test_after_a_crash_at_any_step_the_next_start_has_the_right_sums(
    tmp_path: Path, lines: int, sums: tuple[int, int, int]
) -> None:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    session = await ledger.open_session(replace(record(), price=Fraction(10**15)))
    first, second = payment(tickets=60), payment(tickets=2, first_nonce=61)
    price = Fraction(10**15)
    writes = (
        lambda: ledger.intended(session, 1),
        lambda: ledger.signed(session, 1, first, manifest_id="", price=price),
        lambda: ledger.delivered(session, 1, "job start"),
        lambda: ledger.credited(session, 1),
        lambda: ledger.intended(session, 2),
        lambda: ledger.signed(session, 2, second, manifest_id="m", price=price),
        lambda: ledger.delivered(session, 2),
        lambda: ledger.unknown(session, 2, "reset"),
        lambda: ledger.delivered(session, 2, "attempt 2"),
        lambda: ledger.credited(session, 2, "already seen"),
        lambda: ledger.close_session(session, EndReason.DELETED, owed=Fraction(1)),
    )
    for write in writes[:lines]:
        await write()
    await ledger.close()  # what is on disk is what a crash leaves
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    verification = Verification()
    for account in await accounts(ledger):
        verification.take(account)
    await ledger.close()
    assert (verification.findings, verification.open_sessions, verification.sessions) == ([], 0, 1)
    found = [verification.wei[o] for o in (Outcome.CREDITED, Outcome.UNCERTAIN, Outcome.UNSPENT)]
    assert found == [tickets * price for tickets in sums]
    assert verification.wei[Outcome.REFUSED] == 0


@pytest.mark.asyncio
async def test_an_unexpected_error_while_writing_is_raised_and_the_next_write_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    session = await ledger.open_session(record())
    with monkeypatch.context() as patch:
        patch.setattr(Database, "writing", lambda self: 1 / 0)
        with pytest.raises(LedgerError, match="ZeroDivisionError"):
            await ledger.intended(session, 1)
    await ledger.intended(session, 1)
    await ledger.close()


@pytest.mark.asyncio
async def test_writes_at_once_are_all_written(where: str) -> None:
    ledger = await Ledger.open(where)
    session = await ledger.open_session(record())
    async with asyncio.TaskGroup() as group:
        for number in range(1, 301):
            group.create_task(ledger.intended(session, number))
    assert len(await steps_of(ledger, session)) == 300
    await ledger.close()


@pytest.mark.asyncio
async def test_a_refused_write_fails_only_its_own_transaction(where: str) -> None:
    ledger = await Ledger.open(where)
    with pytest.raises(LedgerError, match="refused a row"):
        await ledger.intended("no such session", 1)
    session = await ledger.open_session(record())
    await ledger.intended(session, 1)
    await ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        await ledger.intended(session, 2)


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
        (account,) = await accounts(ledger)
        assert await credited(ledger, "cam") == 3 * 10**15
        assert account.closed is not None
        assert account.closed["owed"] is None
        assert account.row["price"] == 10**15
        await ledger.close()
    newest = sorted(path.name for path in (MIGRATIONS / "versions").glob("r*.py"))[-1]
    assert _revision(path) == [newest[1:5]]


@pytest.mark.asyncio
async def test_the_tables_after_all_revisions_are_those_of_the_schema(where: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    from gateway.payments.schema import metadata

    await (await Ledger.open(where)).close()
    database = await Database.open(where)
    async with database.writing() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), metadata)
        )
    await database.close()
    assert differences == []


@pytest.mark.asyncio
async def test_a_full_disk_stops_writes_until_there_is_room_and_adds_an_incident(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "ledger.sqlite3")
    ledger = await Ledger.start(database, Timing(write_timeout=0, probe_interval=50_000_000))
    session = await ledger.open_session(record())
    assert ledger.trouble is None
    await _limit_pages(database, 1)
    with pytest.raises(LedgerUnavailable, match="full"):
        for number in range(1, 200):
            await ledger.refused(session, number, "x" * 4000)
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
    async with database.reading() as connection:
        await connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")


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
    assert [step["step"] for step in await steps_of(ledger, session)] == ["intended"]
    await ledger.close()


@pytest.mark.asyncio
async def test_the_error_for_an_unreachable_server_does_not_show_the_password(tmp_path: Path) -> None:
    with pytest.raises(LedgerError) as refused:
        await Ledger.open(f"postgresql://gateway:secret@/ledger?host={tmp_path}")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("where", "driver"),
    [
        ("postgresql://me@host/ledger", "postgresql+asyncpg"),
        ("sqlite:////var/lib/ledger", "sqlite+aiosqlite"),
        ("/var/lib/ledger", "sqlite+aiosqlite"),
    ],
)
def test_each_form_of_the_flag_names_its_database(where: str, driver: str) -> None:
    assert ledger_url(where).drivername == driver
