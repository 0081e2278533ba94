"""The ledger on a server: poolers before it, and what a reader may do."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from gateway.payments.database import Database
from gateway.payments.errors import LedgerError, LedgerUnavailable
from gateway.payments.ledger import Ledger
from harness.postgresql import PostgresqlServer
from tests.payments.ledgers import fill

pytestmark = pytest.mark.asyncio


async def test_a_pooler_in_transaction_mode_is_called_so_each_time(postgresql: PostgresqlServer) -> None:
    with postgresql.pooler("transaction") as where:
        for _ in range(3):
            with pytest.raises(LedgerUnavailable, match="direct connection, or a pooler in session mode"):
                await Ledger.open(where)


async def test_a_pooler_in_session_mode_serves(postgresql: PostgresqlServer) -> None:
    with postgresql.pooler("session") as where:
        ledger = await Ledger.open(where)
        await fill(ledger)
        await ledger.close()


async def test_who_reads_cannot_write(postgresql: PostgresqlServer) -> None:
    where = postgresql.database()
    database = await Database.open(where)
    with pytest.raises(LedgerError, match="read-only"):
        await database.read(lambda connection: connection.execute(text("DELETE FROM sessions")))
    await database.close()
