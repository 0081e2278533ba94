"""Sums that many nodes add to: in memory is only what is to be added with the transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Executable, Table, bindparam, update
from sqlalchemy.dialects.postgresql import insert

from gateway.payments.table_cache import Key, Row


class SharedSums:
    """What `TableCache` is for rows that one alone writes: `flush` adds to the rows as they are then."""

    def __init__(self, table: Table, *keys: str) -> None:
        self._connection: Connection | None = None
        self._keys = keys
        self._numbers = [column.name for column in table.columns if column.name not in keys]
        self._more: dict[Key, dict[str, int]] = {}
        added = insert(table)
        self._add = added.on_conflict_do_update(
            index_elements=list(keys),
            set_={name: table.c[name] + added.excluded[name] for name in self._numbers},
        )
        self._change = (
            update(table)
            .where(*(table.c[name] == bindparam(f"of_{name}") for name in keys))
            .values(
                {name: table.c[name] + bindparam(name, type_=table.c[name].type) for name in self._numbers}
            )
        )

    def begin(self, connection: Connection) -> None:
        """Use this connection, in whose transaction everything is written."""
        self._connection = connection

    def has(self, *key: Any) -> bool:
        """Whether `increase` may be called: what is taken from a row that is not there changes nothing."""
        return True

    def increase(self, *key: Any, **more: int) -> None:
        """Add to the numbers of a row, or subtract; one that is not there begins with zeros."""
        row = self._more.setdefault(key, dict.fromkeys(self._numbers, 0))
        for name, number in more.items():
            row[name] += number

    def flush(self) -> None:
        """Write it. Rows are locked in the order of their keys, as at every node."""
        assert self._connection is not None
        more, self._more = sorted(self._more.items()), {}
        self._run(self._add, [self._row(key, row) for key, row in more if min(row.values()) >= 0])
        self._run(self._change, [self._row(key, row, "of_") for key, row in more if min(row.values()) < 0])

    def _run(self, statement: Executable, rows: list[Row]) -> None:
        if rows:
            assert self._connection is not None
            self._connection.execute(statement, rows)

    def _row(self, key: Key, row: dict[str, int], prefix: str = "") -> Row:
        return {f"{prefix}{name}": value for name, value in zip(self._keys, key, strict=True)} | row

    def forget(self) -> None:
        """The transaction failed: nothing was added."""
        self._more = {}
