"""Prints rows as a table, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def render(rows: Sequence[dict[str, Any]], columns: Sequence[str], form: Format) -> str:
    """The rows as text that ends in a newline. Table and CSV have a header even without rows."""
    match form:
        case Format.JSON:
            return json.dumps(list(rows), indent=2) + "\n"
        case Format.CSV:
            text = io.StringIO()
            writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            return text.getvalue()
        case Format.TABLE:
            return _table(rows, columns)


def _table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    cells = [list(columns), *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    numeric = [all(isinstance(row.get(c), int) or _is_wei(c) for row in rows) for c in columns]
    lines = []
    for line in cells:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    return "-" if value is None else str(value)


def _is_wei(column: str) -> bool:
    return column == "wei" or column.endswith("_wei")
