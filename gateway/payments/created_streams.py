"""Streams that were created by the API, in the ledger's database: whose each name is, and for how long.

Names and idempotency keys are the same for all nodes of a cluster. No secret is kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy import Connection, and_, case, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.payments.database import rows_of
from gateway.payments.schema import created_streams

SECOND = 10**9
MAX_OF_ONE = 10_000
"""Streams of one owner whose tokens are valid."""

Work = Callable[[Callable[[Connection], None]], Awaitable[None]]


class CreationRefused(Exception):
    """A stream that cannot be created; the text says why."""


class NameInUse(CreationRefused):
    """The name is another owner's."""


class KeyUsed(CreationRefused):
    """The idempotency key was used for another request."""


class TooManyCreated(CreationRefused):
    """The owner has as many streams as it may."""


@dataclass(frozen=True, slots=True)
class CreatedStream:
    """`owner` is the token that made it, with its customer; `digest` is of what was asked for."""

    name: str
    owner: str
    customer: str
    digest: str
    token_id: str
    """Of its tokens: the same token is made of the same row."""
    created: int
    """Unix seconds, as the next two."""
    expires: int
    """Of its newest tokens."""
    reserved_until: int
    """From then on each of its tokens is refused, and the name may be another's."""
    key: str = ""
    """The idempotency key; empty for none."""
    asked: str = "{}"
    """What its tokens say, as JSON."""


class CreatedStreams:
    """`work` runs a function in one transaction, `wall_ns` gives nanoseconds since 1970."""

    def __init__(self, work: Work, wall_ns: Callable[[], int]) -> None:
        self._work = work
        self._wall_ns = wall_ns

    @property
    def now(self) -> int:
        """Unix seconds by the ledger's clock."""
        return self._wall_ns() // SECOND

    async def create(self, wanted: CreatedStream) -> CreatedStream:
        """The stream as it is from now on: what the same request made before, where its key says so.

        Its owner may create it anew. Raises CreationRefused or LedgerError.
        """
        found: list[CreatedStream | CreationRefused] = []
        now = self.now

        def work(connection: Connection) -> None:
            found[:] = [_create(connection, wanted, now)]

        await self._work(work)
        (one,) = found
        if isinstance(one, CreationRefused):
            raise one
        return one


def _create(connection: Connection, wanted: CreatedStream, now: int) -> CreatedStream | CreationRefused:
    columns = created_streams.c
    connection.execute(delete(created_streams).where(columns.reserved_until <= now))
    whose = and_(columns.owner == wanted.owner, columns.customer == wanted.customer)
    if wanted.key:
        same = and_(columns.owner == wanted.owner, columns.key == wanted.key, columns.expires > now)
        for row in rows_of(connection, select(created_streams).where(same)):
            if row["digest"] == wanted.digest:
                return CreatedStream(**row)
            return KeyUsed("this Idempotency-Key was sent before with another request: use another key")
    count = select(func.count()).where(columns.owner == wanted.owner)
    if connection.execute(count).scalar_one() >= MAX_OF_ONE:
        return TooManyCreated(f"this token has {MAX_OF_ONE} streams already: wait until some have expired")
    values = {name: getattr(wanted, name) for name in CreatedStream.__slots__}
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(created_streams)
    connection.execute(insert.values(values).on_conflict_do_nothing())
    others = {name: value for name, value in values.items() if name != "name"}
    until = columns.reserved_until
    later = case((until > wanted.reserved_until, until), else_=wanted.reserved_until)
    others["reserved_until"] = later
    mine = update(created_streams).where(columns.name == wanted.name, whose)
    connection.execute(mine.values(others))
    for row in rows_of(connection, select(created_streams).where(columns.name == wanted.name)):
        if row["token_id"] == wanted.token_id:
            return CreatedStream(**row)
    return NameInUse(f"the name {wanted.name!r} is another's: choose another one, or give none")
