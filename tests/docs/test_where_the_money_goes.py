"""The operators' page about money shows what the commands show, and its example adds up."""

from __future__ import annotations

import ast
import re

from gateway.cli.ledger import PAYMENT_COLUMNS, SESSION_COLUMNS
from tests.docs.documents import ROOT, Document

PAGE = Document("docs/where-the-money-goes.md")


def table(first: str) -> list[dict[str, str]]:
    """The table that a command printed, whose first column has that name: a dictionary a row."""
    printed = next(block.text for block in PAGE.blocks if block.text.split()[0] == first)
    head, *rows = (line.split() for line in printed.splitlines())
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_its_tables_have_the_commands_columns() -> None:
    assert table("signed_at")[0].keys() <= set(PAYMENT_COLUMNS)
    assert table("payments")[0].keys() <= set(SESSION_COLUMNS)


def test_its_session_adds_up_to_the_wei() -> None:
    rows, (session,) = table("signed_at"), table("payments")
    for row in rows:
        assert int(row["tickets"]) * int(row["ticket_wei"]) == int(row["wei"])
        assert int(row["last_nonce"]) - int(row["first_nonce"]) + 1 == int(row["tickets"])
    assert int(session["payments"]) == len(rows)
    assert int(session["tickets"]) == sum(int(row["tickets"]) for row in rows)
    assert int(session["credited_wei"]) == sum(int(row["wei"]) for row in rows)
    unused = (int(session["credited_wei"]) - int(session["owed_wei"])) / 10**15
    assert f"{unused:.1f} s of stream" in PAGE.text


def test_each_attack_names_tests_that_are_there() -> None:
    for attack, *_, tests in PAGE.table("attack or fault"):
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
        assert named, f"{attack}: no test"
        assert ", ".join(f"`{path}::{name}`" for path, name in named) == tests, attack
        for path, name in named:
            module = ast.parse((ROOT / path).read_text())
            functions = [
                one.name for one in module.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
            assert name.startswith("test_"), f"{attack}: {name}"
            assert name in functions, f"{attack}: {name} is not in {path}"
