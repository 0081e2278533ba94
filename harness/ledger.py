"""What a gateway's ledger says, read from outside."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from harness.gateway import BIN
from harness.waiting import within


def credited(path: Path) -> int:
    """The sum of everything that the ledger calls credited, in wei: exact, rounded down once, at the end."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT tickets, face_value, win_prob FROM payments WHERE state = 'credited'"
        ).fetchall()
    return sum(tickets * int.from_bytes(face) * int.from_bytes(chance) for tickets, face, chance in rows) // (
        2**256 - 1
    )


def session_reasons(path: Path) -> list[str | None]:
    """Why each session was closed, in the order of their opening; None for one that is open."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT reason FROM sessions ORDER BY number").fetchall()
    return [row[0] for row in rows]


def left_open(path: Path) -> int:
    """Sessions that are open, beside those whose first payment waits for the gateway's next start."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        query = """
            SELECT count(*) FROM sessions WHERE closed_wall_ns IS NULL AND number NOT IN (
                SELECT session FROM saved_jobs JOIN payments USING (session)
                WHERE payments.number = 1 AND payments.state <> 'credited')
        """
        return int(connection.execute(query).fetchone()[0])


async def verify(ledger: Path | str) -> dict[str, Any]:
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
