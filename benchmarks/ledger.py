"""A ledger of a million payments, on SQLite and on PostgreSQL.

How long an older one takes to migrate and this one to open, what limits and sums take, how much room a
payment takes, and how late a line is while others read or old payments are removed.

LEDGER_PAYMENTS in the environment sets how many payments.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sqlite3
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks import older_ledger
from gateway.aio import tasks
from gateway.aio.event_loop import SWITCH_INTERVAL
from gateway.payments.database import ledger_url
from gateway.payments.job_identity import JobIdentity
from gateway.payments.ledger import Ledger, SessionRecord
from gateway.payments.ledger_rows import Grouping
from gateway.payments.payment import Payment
from gateway.payments.saved_jobs import SavedJob
from gateway.payments.sqlite_store import SqliteStore
from harness.payment_models import PRICE, SENDER_TEXT, orchestrator_info, signed_payment
from harness.postgresql import postgresql_server

SESSIONS = 20
"""Sessions that pay at once, each line after the last."""
ROUNDS = 5
"""How often lines are timed, alone and with readers."""
READERS = 4
PROGRESS, SIGNED_PAYMENT = 1800, 1000
"""Characters of what is kept of a job with each payment, and of a payment that is not credited yet."""
DETAILS = "{}" + " " * 1000
STREAM = "stream7"
DAY = 86_400 * 10**9

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    payments: int = int(os.environ.get("LEDGER_PAYMENTS", "1000000"))
    """Those of the older ledger."""
    timed: int = 400
    """Payments of four lines each, that are timed."""
    written: int = 40_000
    """Payments that are written for their size: PostgreSQL's room for rows that were updated, which is used
    again, should hardly count."""


FULL = Plan()


@dataclass
class Engine:
    """One kind of database."""

    name: str
    where: str
    make: Callable[[], Awaitable[None]]
    """Make the older ledger."""
    size: Callable[[], Awaitable[int]]
    """Bytes of everything, indexes included."""


async def measure(folder: Path, plan: Plan = FULL) -> AsyncIterator[Row]:
    sys.setswitchinterval(SWITCH_INTERVAL)  # as in the daemon
    async with AsyncExitStack() as stack:
        server = stack.enter_context(postgresql_server())
        engines = (
            _sqlite(folder / "ledger.sqlite3", plan.payments),
            _postgresql(server.database(), plan.payments),
        )
        for engine in engines:
            async for row in _measure(engine, plan):
                yield {"engine": engine.name, **row}


async def _measure(engine: Engine, plan: Plan) -> AsyncIterator[Row]:
    await engine.make()
    yield {
        "figure": f"migration of {plan.payments} payments, s",
        "value": await _seconds(_open(engine)),
        "aim": 60,
    }
    size = await engine.size()
    yield {"figure": "bytes a payment, migrated", "value": round(size / plan.payments), "aim": 400}
    yield {"figure": "open after a restart, s", "value": await _seconds(_open(engine)), "aim": 1}
    ledger = await Ledger.open(engine.where)
    since = time.time_ns() - DAY
    yield {"figure": "limits, s", "value": await _seconds(ledger.reader.signed_since(since)), "aim": 1}
    for by in Grouping:
        yield {"figure": f"totals by {by}, s", "value": await _seconds(ledger.reader.totals(by)), "aim": 1}
    yield {"figure": "payments of a stream, s", "value": await _seconds(_page(ledger)), "aim": 1}
    alone: list[float] = []
    beside_readers: list[float] = []
    for _ in range(ROUNDS):  # in turns: what else the machine does falls on both
        alone += await _lines(ledger, plan.timed)
        readers = [tasks.spawn(_read(ledger), name=f"bench reader {n}") for n in range(READERS)]
        beside_readers += await _lines(ledger, plan.timed)
        await tasks.cancel(*readers)
    delays = _delays(alone)
    yield {"figure": "a line alone, ms", **delays}
    yield {"figure": f"a line with {READERS} readers, ms", **_delays(beside_readers), **_later(delays)}
    size = await engine.size()
    await _lines(ledger, plan.written, pause=0)
    grown = await engine.size() - size
    yield {
        "figure": "bytes a payment, written line by line",
        "value": round(grown / plan.written),
        "aim": 400,
    }
    removing = tasks.spawn(ledger.retention.remove(DAY // 2), name="bench retention")
    beside_removal = _delays(await _lines(ledger, plan.timed))
    yield {"figure": "a line while old payments are removed, ms", **beside_removal, **_later(delays)}
    yield {"figure": "payments removed, s", "value": await _seconds(removing), "removed": removing.result()}
    await ledger.close()


async def _seconds(work: Awaitable[Any]) -> float:
    began = time.monotonic()
    await work
    return round(time.monotonic() - began, 3)


async def _open(engine: Engine) -> None:
    await (await Ledger.open(engine.where)).close()


async def _page(ledger: Ledger) -> None:
    await ledger.reader.page(STREAM, sessions_limit=100, payments_limit=1000)


async def _read(ledger: Ledger) -> None:
    """Read like somebody who looks at everything, again and again."""
    while True:
        await _page(ledger)
        await ledger.reader.totals(Grouping.DAY)
        await ledger.redemptions.handed_out()


async def _lines(ledger: Ledger, payments: int, pause: float = 0.02) -> list[float]:
    """How long each line of so many payments took, in seconds, over sessions that pay at once."""
    taken: list[float] = []
    made = [
        Payment.read(signed_payment(orchestrator_info(rand=int.from_bytes(os.urandom(31))), 1, 1))
        for _ in range(payments)
    ]

    async def timed(line: Awaitable[Any]) -> None:
        began = time.monotonic()
        await line
        taken.append(time.monotonic() - began)

    async def pay(session_number: int) -> None:
        await asyncio.sleep(pause * session_number / SESSIONS)
        session = await ledger.open_session(_record(session_number))
        for number in range(1, payments // SESSIONS + 1):
            payment = made.pop()
            await timed(ledger.intended(session, number))
            await timed(
                ledger.signed(
                    session,
                    number,
                    payment,
                    manifest_id="5fa1b2c3",
                    price=Fraction(PRICE),
                    saved=_saved(PROGRESS + SIGNED_PAYMENT),
                )
            )
            await timed(ledger.delivered(session, number))
            await timed(ledger.credited(session, number, saved=_saved(PROGRESS)))
            await asyncio.sleep(pause)

    async with asyncio.TaskGroup() as group:
        for number in range(SESSIONS):
            group.create_task(pay(number))
    return taken


def _saved(size: int) -> SavedJob:
    """What is kept of a job; its state and payment are different each time."""
    return SavedJob(DETAILS, base64.b64encode(os.urandom(size * 3 // 4)).decode())


def _delays(taken: list[float]) -> Row:
    milliseconds = sorted(1000 * seconds for seconds in taken)
    p99 = milliseconds[len(milliseconds) * 99 // 100]
    return {
        "median": round(statistics.median(milliseconds), 1),
        "p99": round(p99, 1),
        "max": round(milliseconds[-1], 1),
        "lines": len(milliseconds),
    }


def _later(alone: Row) -> Row:
    """What the 99th percentile may be beside others: 50 ms later than alone, in the same run."""
    return {"aim": alone["p99"] + 50}


def _record(number: int) -> SessionRecord:
    return SessionRecord(
        job=JobIdentity(f"new{number}", f"new{number}", f"request{number}", "orchestrator.example:8935"),
        sender=SENDER_TEXT,
        orchestrator_address="0x3eAfCbC7c174bFeAe16EE60bff3F499037069569",
        orchestrator_url="https://orchestrator.example:8935",
        price=Fraction(PRICE),
        ceiling=Fraction(2 * PRICE),
        interval_ns=5 * 10**9,
    )


def _sqlite(path: Path, payments: int) -> Engine:
    async def make() -> None:
        store = await SqliteStore.open(path)
        await store.write(lambda connection: older_ledger.make(connection, payments))
        await store.close()

    async def size() -> int:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").close()  # the log itself has a bound
        return path.stat().st_size

    return Engine("sqlite", str(path), make, size)


def _postgresql(where: str, payments: int) -> Engine:
    # what is kept of jobs is replaced with each payment: its room does not grow with them
    tables = ("sessions", "payments", "session_days", "draws", "minutes", "signings")

    async def run(work: Callable[[Connection], Any]) -> Any:
        engine = create_async_engine(ledger_url(where))
        async with engine.begin() as connection:
            result = await connection.run_sync(work)
        await engine.dispose()
        return result

    def sizes(connection: Connection) -> int:
        total = " + ".join(f"pg_total_relation_size('{table}')" for table in tables)
        return int(connection.exec_driver_sql(f"SELECT {total}").scalar_one())

    async def make() -> None:
        await run(lambda connection: older_ledger.make(connection, payments))
        # what is measured in seconds takes hours otherwise: the server cleans up meanwhile
        engine = create_async_engine(ledger_url(where), isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.exec_driver_sql("ALTER SYSTEM SET autovacuum_naptime = '1s'")
            await connection.exec_driver_sql("SELECT pg_reload_conf()")
        await engine.dispose()

    return Engine("postgresql", where, make, lambda: run(sizes))
