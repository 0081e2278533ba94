"""A ledger of the revision before 0004 with many payments, made in SQL: a row for each step of each."""

from __future__ import annotations

import time
from string import Template
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from gateway.payments.migrations import MIGRATIONS

SESSIONS = 1000
HOURS = 23
"""The payments are of the last so many hours: limits look at all of them."""
STEPS = ("intended", "signed", "delivered", "credited")

INDEXES = {
    "steps_session": ("steps", "session_id"),
    "steps_payment": ("steps", "payment_id"),
    "steps_step_wall": ("steps", "step, wall_ns"),
    "payments_rand_hash": ("payments", "recipient_rand_hash"),
}
"""Made at the end: all at once is faster."""

NUMBERS = {
    "sqlite": "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count})"
    " SELECT i FROM n)",
    "postgresql": "(SELECT generate_series(0, {count} - 1) AS i)",
}
HASH = {"sqlite": "lower(hex(randomblob(32)))", "postgresql": "md5(random()::text) || md5(random()::text)"}
DIGITS = {
    "sqlite": "substr(abs(random()) || '00000000000000000000', 1, 18)",
    "postgresql": "substr((random() * 1e18)::numeric(20) || '00000000000000000000', 1, 18)",
}


def make(connection: Connection, payments: int) -> None:
    """Fill an empty database: payments of SESSIONS jobs, each a few seconds after the last, all credited."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "0003")
    dialect, each = connection.dialect.name, payments // SESSIONS
    began, gap = time.time_ns() - HOURS * 3600 * 10**9, HOURS * 3600 * 10**9 // payments

    def run(statement: str, **values: Any) -> None:
        numbers = NUMBERS[dialect].format(count=values.pop("count"))
        values |= {"hash": HASH[dialect], "digits": DIGITS[dialect], "numbers": numbers}
        connection.exec_driver_sql(Template(statement).substitute(values))

    for index in INDEXES:
        connection.exec_driver_sql(f"DROP INDEX {index}")
    session = f"substr('00000000000000000000000000000000' || (n.i % {SESSIONS}), -32)"
    if dialect == "postgresql":
        session = f"lpad((n.i % {SESSIONS})::text, 32, '0')"
    payment = f"{session} || '-' || (n.i / {SESSIONS} + 1)"
    run(
        """INSERT INTO sessions
        SELECT $session, 'run', 'stream' || (n.i % 50), 'stream' || (n.i % 50), 'request' || n.i,
            '0xd84e7441465801A9A596B144E631a8AF38e6e195',
            '0x3eAfCbC7c174bFeAe16EE60bff3F49903706956' || (n.i % 10),
            'https://orchestrator.example:8935', 'orchestrator.example:8935',
            '1000000000000000', '2000000000000000', 5000000000, $began + n.i, n.i
        FROM $numbers n""",
        count=SESSIONS,
        session=session,
        began=began,
    )
    run(
        """INSERT INTO payments
        SELECT $payment, $session, n.i / $sessions + 1,
            CASE WHEN n.i < $sessions THEN '' ELSE '5fa1b2c3' END,
            CASE WHEN n.i < $sessions THEN 60 ELSE 5 END,
            '1' || $digits, '12' || $digits || $digits || $digits || $digits,
            $digits || $digits || '/$most', $digits || $digits || '/$most',
            '1000000000000000', 1, 5, $hash
        FROM $numbers n ORDER BY n.i""",
        count=each * SESSIONS,
        session=session,
        payment=payment,
        sessions=SESSIONS,
        most=2**256 - 1,
    )
    columns = "id, session_id, payment_id, step, reason, detail, run, wall_ns, monotonic_ns"
    for number, step in enumerate(STEPS):
        run(
            """INSERT INTO steps ($columns)
            SELECT n.i * 4 + $number + 1, $session, $payment, '$step', NULL, '',
                '00000000000000000000000000000000',
                $began + CAST(n.i AS BIGINT) * $gap + $number * 8000000,
                CAST(n.i AS BIGINT) * $gap + $number * 8000000
            FROM $numbers n""",
            count=each * SESSIONS,
            columns=columns,
            number=number,
            step=step,
            session=session,
            payment=payment,
            began=began,
            gap=gap,
        )
    run(
        """INSERT INTO steps ($columns)
        SELECT $first + n.i, $session, NULL, 'closed', 'deleted', '', 'run', $ended, $ended
        FROM $numbers n""",
        count=SESSIONS,
        columns=columns,
        session=session,
        first=len(STEPS) * each * SESSIONS + 1,
        ended=time.time_ns(),
    )
    for index, (table, columns) in INDEXES.items():
        connection.exec_driver_sql(f"CREATE INDEX {index} ON {table} ({columns})")
