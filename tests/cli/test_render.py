"""Rows as tables, JSON and CSV, whatever is in them."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.cli.render import PAGE, Format, render

Row = dict[str, Any]


def text(rows: list[Row], columns: tuple[str, ...], form: Format) -> str:
    async def each() -> AsyncIterator[Row]:
        for row in rows:
            yield row

    async def whole() -> str:
        return "".join([piece async for piece in render(each(), columns, form)])

    return asyncio.run(whole())


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_cell_is_a_formula_for_a_spreadsheet(start: str) -> None:
    breaks = ("\r", "\n")
    (row,) = csv.DictReader(
        io.StringIO(text([{"a": f"{start}1+1", "b": -1}], ("a", "b"), Format.CSV), newline="")
    )
    assert row == {"a": f"'{' ' if start in breaks else start}1+1", "b": "-1"}


@pytest.mark.parametrize("count", [0, 1, 2, PAGE, PAGE + 1])
def test_json_is_one_list_however_many_pages_it_comes_in(count: int) -> None:
    rows = [{"n": number, "of": {"a": [1]}} for number in range(count)]
    assert text(rows, ("n",), Format.JSON) == json.dumps(rows, indent=2) + "\n"


def test_tables_and_csv_name_their_columns_once() -> None:
    assert text([], ("a", "b_wei"), Format.TABLE) == "a  b_wei\n"
    assert text([], ("a", "b_wei"), Format.CSV) == "a,b_wei\n"
    rows = [{"a": "x", "b_wei": str(number)} for number in range(PAGE + 2)]
    lines = text(rows, ("a", "b_wei"), Format.TABLE).splitlines()
    assert lines[:2] == ["a  b_wei", "x      0"]
    assert len(lines) == PAGE + 3
    assert len(set(map(len, lines))) == 1
