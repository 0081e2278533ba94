"""The ledger of the chaos run on nodes, in PostgreSQL: a user for each node, and who wrote each payment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby

import asyncpg

from benchmarks.chaos.books import PAYMENTS, Entry, entry_of

WATCH = """
CREATE TABLE chaos_signed
  (id serial, session integer, number integer, writer text, owner text, epoch integer);
CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO chaos_signed (session, number, writer, owner, epoch)
    SELECT NEW.session, NEW.number, session_user, s.node, s.epoch
    FROM sessions s WHERE s.number = NEW.session;
  RETURN NEW;
END $$;
CREATE TRIGGER chaos_note AFTER INSERT ON payments FOR EACH ROW EXECUTE FUNCTION chaos_note();
"""
SIGNED = "SELECT session, number, writer, owner, epoch FROM chaos_signed ORDER BY session, id"
OPEN = """
SELECT count(*) FROM sessions WHERE closed_wall_ns IS NULL AND number NOT IN (
  SELECT saved_jobs.session FROM saved_jobs JOIN payments USING (session)
  WHERE payments.number = 1 AND payments.state <> 'credited')
"""
"""Sessions that are open, beside those whose first payment waits to be used again."""


@dataclass(frozen=True)
class Signed:
    """A payment, as it was written down."""

    session: int
    number: int
    writer: str
    """The node whose connection wrote it."""
    owner: str
    """The node that had the session, by its row."""
    epoch: int


def signed_by_two(signed: Iterable[Signed]) -> list[str]:
    """What is wrong with who signed for each session, by its payments in the order of writing: sentences."""
    found = []
    for session, group in groupby(signed, key=lambda one: one.session):
        payments = list(group)
        writers: dict[int, set[str]] = {}
        for one in payments:
            writers.setdefault(one.epoch, set()).add(one.writer)
            if one.writer != one.owner:
                found.append(f"{one.writer} signed payment {one.number} of {one.owner}'s session {session}")
        found += [
            f"session {session} was signed for by {sorted(nodes)} in epoch {epoch}"
            for epoch, nodes in writers.items()
            if len(nodes) > 1
        ]
        if [one.epoch for one in payments] != sorted(one.epoch for one in payments):
            found.append(f"session {session} was signed for in an epoch that was over")
        if len({one.number for one in payments}) != len(payments):
            found.append(f"a payment of session {session} was signed twice")
    return found


class ClusterLedger:
    """A database by its URL."""

    def __init__(self, url: str) -> None:
        self.url = url

    def of(self, node: str) -> str:
        """Its URL for one node, which is a user of its own."""
        return self.url.replace("postgresql://postgres@", f"postgresql://{node}@")

    async def make_users(self, nodes: Sequence[str]) -> None:
        async with self._connected() as connection:
            for node in nodes:
                await connection.execute(f"CREATE ROLE {node} SUPERUSER LOGIN")

    async def watch(self) -> None:
        """Note who writes each payment; the tables are there by now."""
        async with self._connected() as connection:
            await connection.execute(WATCH)

    async def entries(self) -> list[Entry]:
        async with self._connected() as connection:
            return [entry_of(*row) for row in await connection.fetch(PAYMENTS)]

    async def signed(self) -> list[Signed]:
        async with self._connected() as connection:
            return [Signed(*row) for row in await connection.fetch(SIGNED)]

    async def spent_for(self, customer: str) -> Fraction:
        """Wei of all payments of a customer."""
        async with self._connected() as connection:
            rows = await connection.fetch(f"{PAYMENTS} WHERE s.customer = $1", customer)
            return sum((entry_of(*row).value for row in rows), Fraction(0))

    async def left_open(self) -> int:
        async with self._connected() as connection:
            return int(await connection.fetchval(OPEN))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.url)
        try:
            yield connection
        finally:
            await connection.close()
