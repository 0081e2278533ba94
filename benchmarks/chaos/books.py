"""What was paid, by the ledger, against what the orchestrators that lived were credited."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

CLEAN = ("rejected", "duplicate_nonces", "stale_params")


@dataclass
class Account:
    """Wei by what the ledger says became of the payments to one orchestrator."""

    credited: Fraction = Fraction(0)
    perhaps: Fraction = Fraction(0)
    """Handed out, without a word on what became of it."""
    unexplained: Fraction = Fraction(0)
    """Signed, neither handed out nor in a session that was closed."""


@dataclass
class Books:
    accounts: dict[str, Account] = field(default_factory=lambda: defaultdict(Account))
    payments: int = 0

    @classmethod
    def read(cls, ledger: Path) -> Books:
        books = cls()
        with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as connection:
            rows = connection.execute(
                "SELECT lower(s.orchestrator_address), p.value,"
                " (SELECT group_concat(step) FROM steps WHERE payment_id = p.id),"
                " EXISTS (SELECT 1 FROM steps WHERE session_id = s.id AND step = 'closed')"
                " FROM payments p JOIN sessions s ON s.id = p.session_id"
            ).fetchall()
        for address, value, steps, closed in rows:
            books.payments += 1
            books._enter(
                books.accounts[address], Fraction(value), set((steps or "").split(",")), bool(closed)
            )
        return books

    def _enter(self, account: Account, value: Fraction, steps: set[str], closed: bool) -> None:
        if "credited" in steps:
            account.credited += value
        elif "refused" in steps:
            return
        elif steps & {"delivered", "unknown"}:
            account.perhaps += value
        elif not closed:
            account.unexplained += value


def unexplained(books: Books, audits: dict[str, dict[str, Any]]) -> int:
    """Wei that neither the ledger nor an audit accounts for; `audits` are those of who lived, by address."""
    total = sum((account.unexplained for account in books.accounts.values()), Fraction(0))
    wei = int(total)
    for address, audit in audits.items():
        account, credited = books.accounts[address.lower()], int(audit["credited_wei"])
        wei += max(0, int(account.credited) - credited)
        wei += max(0, credited - int(account.credited + account.perhaps))
    return wei


def faults_in(audit: dict[str, Any]) -> dict[str, int]:
    """What is wrong in an orchestrator's audit."""
    wrong = {name: audit[name] for name in CLEAN if audit[name]}
    if int(audit["min_balance_wei"]) < 0:
        wrong["min_balance_wei"] = int(audit["min_balance_wei"])
    return wrong
