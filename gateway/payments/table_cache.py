"""Rows of one table, kept in memory between transactions by who alone writes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Table, Update, bindparam, insert, select, update

MAX_ROWS = 5000
"""Rows that are kept after a transaction: many more than live sessions change."""

Row = dict[str, Any]
Key = tuple[Any, ...]


class TableCache:
    """Rows by the columns that are named as their key. `flush` writes what was added and changed."""

    def __init__(self, table: Table, *keys: str) -> None:
        self._table = table
        self._keys = keys
        self._connection: Connection | None = None
        self._rows: dict[Key, Row] = {}
        self._added: dict[Key, Row] = {}
        self._changed: dict[Key, set[str]] = {}
        self._insert = insert(table)
        self._updates: dict[tuple[str, ...], Update] = {}
        self._select = select(table).where(*(table.c[name] == bindparam(f"of_{name}") for name in keys))

    def begin(self, connection: Connection) -> None:
        """Use this connection, in whose transaction everything is read and written."""
        self._connection = connection

    def find(self, *key: Any) -> Row | None:
        """The row with this key, from memory or from the table; not to be changed by the caller."""
        row = self._rows.get(key)
        if row is None and self._connection is not None:
            parameters = self._parameters(key, ())
            found = self._connection.execute(self._select, parameters).mappings().first()
            if found is not None:
                row = self.keep(dict(found))
        return row

    def keep(self, row: Row) -> Row:
        """Remember a row that is in the table."""
        self._rows[tuple(row[name] for name in self._keys)] = row
        return row

    def has(self, *key: Any) -> bool:
        """Whether there is a row with this key."""
        return self.find(*key) is not None

    def kept(self, *key: Any) -> Row | None:
        """The row with this key where it is in memory."""
        return self._rows.get(key)

    def add(self, row: Row) -> None:
        """Insert a row."""
        self.keep(row)
        self._added[tuple(row[name] for name in self._keys)] = row

    def change(self, *key: Any, **values: Any) -> None:
        """Update columns of a row that `find` gave."""
        self._rows[key].update(values)
        if key not in self._added:
            self._changed.setdefault(key, set()).update(values)

    def increase(self, *key: Any, **more: int) -> None:
        """Add to the numbers of a row; one that is not there begins with zeros."""
        row = self.find(*key)
        if row is None:
            zeros = {column.name: 0 for column in self._table.columns if not column.primary_key}
            self.add({**dict(zip(self._keys, key, strict=True)), **zeros, **more})
        else:
            self.change(*key, **{name: row[name] + number for name, number in more.items()})

    def flush(self) -> None:
        """Write what was added and changed: one statement for each set of columns."""
        assert self._connection is not None
        if self._added:
            self._connection.execute(self._insert, list(self._added.values()))
        by_columns: dict[tuple[str, ...], list[Key]] = {}
        for key, columns in self._changed.items():
            by_columns.setdefault(tuple(sorted(columns)), []).append(key)
        for names, keys in by_columns.items():
            parameters = [self._parameters(key, names) for key in keys]
            self._connection.execute(self._update(names), parameters)
        self._added, self._changed = {}, {}
        if len(self._rows) > MAX_ROWS:
            self._rows = {}

    def _update(self, columns: tuple[str, ...]) -> Update:
        """The statement for these columns, made once: making one takes longer than running it."""
        if columns not in self._updates:
            self._updates[columns] = (
                update(self._table)
                .where(*(self._table.c[name] == bindparam(f"of_{name}") for name in self._keys))
                .values({name: bindparam(f"to_{name}") for name in columns})
            )
        return self._updates[columns]

    def _parameters(self, key: Key, columns: Iterable[str]) -> Row:
        parameters = {f"of_{name}": value for name, value in zip(self._keys, key, strict=True)}
        return parameters | {f"to_{name}": self._rows[key][name] for name in columns}

    def drop(self, *key: Any) -> None:
        """Forget a row that is in the table no more."""
        self._rows.pop(key, None)

    def drop_of(self, first: Any) -> None:
        """Forget all rows whose key begins so: somebody else has written them."""
        self._rows = {key: row for key, row in self._rows.items() if key[0] != first}

    def forget(self) -> None:
        """Forget everything: what was changed may not have been written."""
        self._rows, self._added, self._changed = {}, {}, {}
