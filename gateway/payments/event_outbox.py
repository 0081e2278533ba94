"""Events that wait for the webhook's server, in the ledger's database; and the streams that have no end yet.

In a cluster one node at a time delivers all rows: it holds a lease by the database's clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from gateway.payments.database import Database, rows_of
from gateway.payments.schema import event_lease, event_outbox, event_streams, session_days, sessions
from gateway.payments.steps import Outcome
from gateway.payments.ticket import MAX_WIN_PROB
from gateway.payments.timebase import NANOSECONDS

MAX_ROWS = 50_000
"""Events that wait at most: the oldest are dropped."""
MAX_STREAMS = 10_000
"""Streams whose rows are looked for at once."""

Work = Callable[[Callable[[Connection], None]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """One event to deliver. `body` is the JSON that is sent, `wall_ns` when it happened."""

    id: str
    stream: str
    body: str
    wall_ns: int


@dataclass(frozen=True, slots=True)
class OpenStream:
    """A stream whose `stream.created` was written, and no `stream.ended`."""

    request_id: str
    stream: str
    stream_id: str
    publisher: str
    customer: str
    wall_ns: int


class EventOutbox:
    """`work` has a function read and write in one transaction. All raise LedgerError."""

    def __init__(self, database: Database, work: Work, wall_ns: Callable[[], int]) -> None:
        self._database = database
        self._work = work
        self._wall_ns = wall_ns
        self.node = database.node or ""
        self.shared = database.node is not None
        """Whether other nodes deliver from it too."""

    async def add(
        self,
        events: Sequence[OutboxEvent],
        *,
        begun: Sequence[OpenStream] = (),
        ended: Sequence[str] = (),
        most: int = MAX_ROWS,
    ) -> int:
        """Add events in their order; gives how many old ones were dropped for want of room.

        `begun` are streams of this node that go on from now, `ended` request ids of those that are over.
        """
        dropped: list[int] = []
        rows = [
            {"id": one.id, "stream": one.stream, "body": one.body, "wall_ns": one.wall_ns} for one in events
        ]

        def write(connection: Connection) -> None:
            dropped.clear()
            if rows:
                connection.execute(insert(event_outbox), rows)
            ids = [*ended, *(one.request_id for one in begun)]
            if ids:
                connection.execute(delete(event_streams).where(event_streams.c.request_id.in_(ids)))
            over = set(ended)
            going = [one for one in begun if one.request_id not in over]
            for one in going:
                connection.execute(insert(event_streams).values(node=self.node, **_row(one)))
            newest = select(func.max(event_outbox.c.number)).scalar_subquery()
            old = delete(event_outbox).where(event_outbox.c.number <= newest - most)
            dropped.append(connection.execute(old).rowcount)

        await self._work(write)
        return dropped[0]

    async def streams(self) -> list[str]:
        """The streams of which events wait."""
        query = select(event_outbox.c.stream).distinct().limit(MAX_STREAMS)
        return [row["stream"] for row in await self._database.rows(query)]

    async def of_stream(self, stream: str, most: int) -> list[OutboxEvent]:
        """The first events of a stream that wait, oldest first."""
        columns = event_outbox.c
        query = select(columns.id, columns.stream, columns.body, columns.wall_ns)
        query = query.where(columns.stream == stream).order_by(columns.number).limit(most)
        return [OutboxEvent(**row) for row in await self._database.rows(query)]

    async def remove(self, ids: Iterable[str]) -> None:
        """These were delivered, or given up."""
        gone = delete(event_outbox).where(event_outbox.c.id.in_(list(ids)))
        await self._work(lambda connection: _execute(connection, gone))

    async def lease(self, seconds: int) -> bool:
        """Whether this node delivers for so many seconds from now."""
        now, taken = self._wall_ns(), list[bool]()
        columns = event_lease.c
        until = now + seconds * NANOSECONDS

        def take(connection: Connection) -> None:
            taken.clear()
            mine = or_(columns.holder == self.node, columns.until_ns < now)
            renewed = update(event_lease).where(columns.name == "webhook", mine)
            taken.append(connection.execute(renewed.values(holder=self.node, until_ns=until)).rowcount == 1)

        await self._work(take)
        return taken[0]

    async def open_streams(self) -> list[OpenStream]:
        """The streams of this node that a former run began and did not end."""
        columns = event_streams.c
        query = select(
            columns.request_id,
            columns.stream,
            columns.stream_id,
            columns.publisher,
            columns.customer,
            columns.wall_ns,
        )
        query = query.where(columns.node == self.node).order_by(columns.wall_ns).limit(MAX_STREAMS)
        return [OpenStream(**row) for row in await self._database.rows(query)]

    async def credited(self, one: OpenStream) -> Fraction:
        """Wei that were credited for a publish, by the ledger."""
        column = session_days.c[Outcome.CREDITED.value]
        query = select(column).join(sessions, sessions.c.number == session_days.c.session)
        query = query.where(sessions.c.stream == one.stream, sessions.c.request_id == one.request_id)
        rows = await self._database.read(lambda connection: rows_of(connection, query))
        return Fraction(sum(row[column.name] for row in rows), MAX_WIN_PROB)


def _row(one: OpenStream) -> dict[str, Any]:
    return {
        "request_id": one.request_id,
        "stream": one.stream,
        "stream_id": one.stream_id,
        "publisher": one.publisher,
        "customer": one.customer,
        "wall_ns": one.wall_ns,
    }


def _execute(connection: Connection, statement: Any) -> None:
    connection.execute(statement)
