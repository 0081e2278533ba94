"""What a gateway's ledger says, read from outside."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

from harness.gateway import BIN
from harness.waiting import within


def credited(path: Path) -> int:
    """The sum of everything that the ledger calls credited, in wei: exact, rounded down once, at the end."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT p.tickets, p.ticket_ev FROM payments p JOIN steps s ON s.payment_id = p.id"
            " WHERE s.step = 'credited'"
        ).fetchall()
    return int(sum((int(tickets) * Fraction(ev) for tickets, ev in rows), Fraction(0)))


def session_reasons(path: Path) -> list[str | None]:
    """Why each session was closed, in the order of their opening; None for one that is open."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT (SELECT reason FROM steps WHERE session_id = s.id AND step = 'closed')"
            " FROM sessions s ORDER BY s.monotonic_ns"
        ).fetchall()
    return [row[0] for row in rows]


async def verify(ledger: Path) -> dict[str, Any]:
    """What `ledger verify` says; fails where something does not add up."""
    process = await asyncio.create_subprocess_exec(
        BIN / "livepeer-gateway",
        *("ledger", "verify", "-ledger", str(ledger), "-format", "json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await within(process.communicate(), what="ledger verify")
    assert process.returncode == 0, err.decode()
    return dict(json.loads(out)[0])
