"""A ledger of the last release: nothing of it is lost on the way to today's tables, on either database."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.payments.database import ledger_url
from gateway.payments.ledger import Ledger
from gateway.payments.ledger_rows import Call, Grouping, LedgerSession
from gateway.payments.migrations import MIGRATIONS
from gateway.payments.schema import payments
from gateway.payments.verify import verify
from gateway.reason import EndReason
from tests.payments.ledgers import pay, payment, record

pytestmark = pytest.mark.asyncio

DATA = Path(__file__).parents[1] / "data"
DAY = 86_400 * 10**9
HANDED_OUT = {("00000000000000000000000000000003", 1)}
WITHHELD = {("00000000000000000000000000000005", 3)}
CRASHED = (
    "00000000000000000000000000000006",
    "00000000000000000000000000000007",
    "00000000000000000000000000000008",
)
KILLED = """
import asyncio, os, signal, sys
from gateway.payments.ledger import Ledger
from gateway.payments.migrations import r0004_rows

write = r0004_rows._Sums.write

def killed(sums, connection):
    write(sums, connection)
    os.kill(os.getpid(), signal.SIGKILL)

r0004_rows._Sums.write = killed
asyncio.run(Ledger.open(sys.argv[1]))
"""


async def execute(where: str, *work: Any) -> None:
    """Run functions of a connection, or SQL, in one transaction."""
    url = ledger_url(where)

    def run(connection: Connection) -> None:
        for one in work:
            connection.exec_driver_sql(one) if isinstance(one, str) else one(connection)

    if url.get_backend_name() == "sqlite":
        engine = create_engine(url)
        with engine.begin() as connection:
            run(connection)
        engine.dispose()
        return
    server = create_async_engine(url)
    async with server.begin() as remote:
        await remote.run_sync(run)
    await server.dispose()


def _upgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _revision_3(connection: Connection) -> None:
    _upgrade(connection, "0003")


def _revision_7(connection: Connection) -> None:
    _upgrade(connection, "0007")


INDEXES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'payments'",
    "postgresql": "SELECT indexname FROM pg_indexes WHERE tablename = 'payments'",
}


def _rows(connection: Connection) -> None:
    lines = (DATA / "ledger-0003.sql").read_text("utf-8").split(";\n")
    inserts = [line[line.index("INSERT") :] for line in lines if "INSERT" in line]
    for line in sorted(inserts, key=lambda line: '"sessions"' not in line):  # others refer to sessions
        connection.exec_driver_sql(line)


@pytest.fixture
def expected() -> dict[str, Any]:
    """What the last release read in its ledger."""
    found: dict[str, Any] = json.loads((DATA / "ledger-0003.json").read_text())
    return found


async def test_no_wei_and_no_step_is_lost(where: str, expected: dict[str, Any]) -> None:
    await execute(where, _revision_3, _rows)
    for _ in range(2):
        ledger = await Ledger.open(where)
        for by in (Grouping.DAY, Grouping.ORCHESTRATOR, Grouping.STREAM):
            totals = [
                {
                    "key": total.key,
                    "sessions": len(total.sessions),
                    "payments": total.payments,
                    "tickets": total.tickets,
                    "wei": _as_before(total.wei),
                }
                for total in await ledger.reader.totals(by)
            ]
            assert totals == expected["totals"][by]
        sessions = [one async for one in ledger.reader.sessions()]
        assert [session.row["id"] for session in sessions] == list(expected["sessions"])
        for session in sessions:
            await _check(ledger, session, expected["sessions"][session.row["id"]])
        handed = [[some.orchestrator, some.tickets] for some in await ledger.redemptions.handed_out()]
        assert sum(tickets for _, tickets in handed) == sum(one[2] for one in expected["handed_out"])
        wins = [[win.orchestrator, win.day, win.amount, win.known] for win in await ledger.redemptions.wins()]
        assert sorted(wins) == sorted(expected["wins"])
        assert (await verify(ledger.reader)).findings == []
        await ledger.close()


def _as_before(wei: dict[Any, Fraction]) -> dict[str, str]:
    """The last release had no `handed_out`: it was `refused`."""
    sums = {outcome.value: amount for outcome, amount in wei.items()}
    sums["refused"] += sums.pop("handed_out")
    return {outcome: str(sums[outcome]) for outcome in ("credited", "refused", "uncertain", "unspent")}


async def _check(ledger: Ledger, session: LedgerSession, expected: dict[str, Any]) -> None:
    assert session.closed is not None
    if expected["closed"] is None:
        assert session.row["id"] in CRASHED
        assert session.closed["reason"] == EndReason.INTERNAL_ERROR
    else:
        closed = session.closed
        found = [closed["wall_ns"], closed["reason"], closed["detail"], str(closed["owed"])]
        assert found == expected["closed"]
    kept = {str(one.row["number"]): one async for one in ledger.reader.payments_of(session)}
    assert list(kept) == list(expected["payments"])
    for number, before in expected["payments"].items():
        made, key = kept[number], (session.row["id"], int(number))
        refused = "handed_out" if key in HANDED_OUT else "withheld" if key in WITHHELD else "refused"
        steps = [
            [refused if step == "refused" else step, wall_ns // 10**6, detail]
            for step, wall_ns, detail in before["steps"]
        ]
        now = [[step["step"], step["wall_ns"] // 10**6, step["detail"]] for step in made.steps]
        assert [step[0::2] for step in now] == [step[0::2] for step in steps]
        assert all(abs(one[1] - other[1]) <= 1 for one, other in zip(now, steps, strict=True))
        assert str(made.value) == before["value"]
        assert str(made.row["price"]) == before["price"]
        assert made.row["manifest_id"] == before["manifest_id"]
        assert [made.row["first_nonce"], made.row["last_nonce"]] == before["nonces"]
        assert made.outcome == ("handed_out" if key in HANDED_OUT else before["outcome"])


async def test_a_ledger_of_revision_7_gets_the_shorter_index_and_the_schema_s_settings(where: str) -> None:
    former_index = "CREATE INDEX payments_rand_hash ON payments (recipient_rand_hash)"
    await execute(where, _revision_3, _rows, _revision_7, former_index)
    ledger = await Ledger.open(where)
    assert (await verify(ledger.reader)).findings == []
    await ledger.close()
    found: list[str] = []
    settings: list[str] = []

    def read(connection: Connection) -> None:
        found.extend(connection.exec_driver_sql(INDEXES[connection.dialect.name]).scalars())
        if connection.dialect.name == "postgresql":
            query = "SELECT unnest(reloptions) FROM pg_class WHERE oid = 'payments'::regclass"
            settings.extend(connection.exec_driver_sql(query).scalars())

    await execute(where, read)
    if "postgresql" in where:
        wanted = payments.dialect_options["postgresql"]["with"]
        assert sorted(settings) == sorted(f"{name}={value}" for name, value in wanted.items())
    assert sorted(name for name in found if "pkey" not in name) == ["payments_rand_start", "payments_session"]


async def test_calls_without_a_payment_are_known_to_the_signer_s_bill(where: str) -> None:
    await execute(where, _revision_3, _rows)
    ledger = await Ledger.open(where)
    calls = [call async for call in ledger.reader.signer_calls()]
    lost = [(call.session.row["id"], call.number) for call in calls if call.call is Call.LOST]
    unreadable, asked_at_the_crash = ("00000000000000000000000000000005", 4), (CRASHED[0], 2)
    assert lost == [unreadable, asked_at_the_crash]
    assert sum(call.call is Call.WITHHELD for call in calls) == len(WITHHELD)
    await ledger.close()


async def test_what_was_signed_lately_counts_in_the_spend_limits(
    where: str, expected: dict[str, Any]
) -> None:
    newest = 1_780_027_000 * 10**9
    later = time.time_ns() - newest
    moved = f"UPDATE steps SET wall_ns = wall_ns + {later}"
    await execute(where, _revision_3, _rows, moved)
    ledger = await Ledger.open(where)
    signed = await ledger.reader.signed_since(time.time_ns() - DAY)
    assert str(sum(wei for _, wei, _ in signed)) == expected["signed"]
    await ledger.close()


async def test_a_migration_that_is_killed_is_made_at_the_next_start(
    where: str, expected: dict[str, Any]
) -> None:
    await execute(where, _revision_3, _rows)
    killed = subprocess.run([sys.executable, "-c", KILLED, where], check=False, stderr=subprocess.PIPE)
    assert killed.returncode == -9, killed.stderr.decode()
    ledger = await Ledger.open(where)
    totals = await ledger.reader.totals(Grouping.STREAM)
    assert [_as_before(total.wei) for total in totals] == [one["wei"] for one in expected["totals"]["stream"]]
    session = await ledger.open_session(record("new"))
    await pay(ledger, session, 1, payment(99, 1, 60), "delivered", "credited")
    await ledger.close()
