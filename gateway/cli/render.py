"""Rows as a table for people, as JSON or as CSV, a page at a time."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from enum import StrEnum
from typing import Any

PAGE = 1000
"""Rows that are written at once. A table's columns are as wide as the rows so far need."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""How a cell begins that spreadsheets take for a formula, or for the start of another cell."""

Row = dict[str, Any]


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


async def render(rows: AsyncIterable[Row], columns: Sequence[str], form: Format) -> AsyncIterator[str]:
    """The rows as pieces of text. Table and CSV have a header even without rows."""
    pages = _pages(rows)
    match form:
        case Format.JSON:
            pieces = _json(pages)
        case Format.CSV:
            pieces = _csv(pages, columns)
        case Format.TABLE:
            pieces = _table(pages, columns)
    async for piece in pieces:
        yield piece


async def _pages(rows: AsyncIterable[Row]) -> AsyncIterator[list[Row]]:
    """The rows in lists of at most PAGE; one empty list where there are none."""
    page: list[Row] = []
    count = 0
    async for row in rows:
        page.append(row)
        count += 1
        if len(page) == PAGE:
            yield page
            page = []
    if page or not count:
        yield page


async def _json(pages: AsyncIterator[list[Row]]) -> AsyncIterator[str]:
    before = "["
    async for page in pages:
        for row in page:
            yield before + "\n  " + json.dumps(row, indent=2).replace("\n", "\n  ")
            before = ","
    yield "[]\n" if before == "[" else "\n]\n"


async def _csv(pages: AsyncIterator[list[Row]], columns: Sequence[str]) -> AsyncIterator[str]:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    async for page in pages:
        writer.writerows({name: _harmless(value) for name, value in row.items()} for row in page)
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def _harmless(value: Any) -> Any:
    """A cell of one line that no spreadsheet takes for a formula: a quote before it makes it text."""
    if not isinstance(value, str):
        return value
    text = value.replace("\r", " ").replace("\n", " ")
    return f"'{text}" if value.startswith(FORMULA) else text


async def _table(pages: AsyncIterator[list[Row]], columns: Sequence[str]) -> AsyncIterator[str]:
    widths = [0] * len(columns)
    header = [list(columns)]
    async for page in pages:
        cells = [*header, *([_cell(row.get(column)) for column in columns] for row in page)]
        widths = [max(width, *(len(line[index]) for line in cells)) for index, width in enumerate(widths)]
        numeric = [all(isinstance(row.get(c), int) or _is_wei(c) for row in page) for c in columns]
        for line in cells:
            padded = [
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(line, widths, numeric, strict=True)
            ]
            yield "  ".join(padded).rstrip() + "\n"
        header = []


def _cell(value: Any) -> str:
    return "-" if value is None else str(value)


def _is_wei(column: str) -> bool:
    return column == "wei" or column.endswith("_wei")
