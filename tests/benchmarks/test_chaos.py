"""The chaos run: its books add up or say what does not, and a short run keeps its promises."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks.chaos.__main__ import chaos
from benchmarks.chaos.books import Account, Books, faults_in, unexplained

AUDIT = {"rejected": 0, "duplicate_nonces": 0, "stale_params": 0, "min_balance_wei": "5"}


def books(**account: int) -> Books:
    made = Books()
    made.accounts["0xa"] = Account(**{name: Fraction(wei) for name, wei in account.items()})
    return made


def test_what_the_audit_and_the_ledger_agree_on_is_explained() -> None:
    assert unexplained(books(credited=7), {"0xA": {"credited_wei": "7"}}) == 0


def test_a_payment_without_an_outcome_may_have_been_credited_or_not() -> None:
    for credited in ("7", "10"):
        assert unexplained(books(credited=7, perhaps=3), {"0xA": {"credited_wei": credited}}) == 0


def test_what_only_one_side_knows_of_is_unexplained() -> None:
    assert unexplained(books(credited=7), {"0xA": {"credited_wei": "5"}}) == 2
    assert unexplained(books(credited=7), {"0xA": {"credited_wei": "11"}}) == 4
    assert unexplained(books(unexplained=9), {}) == 9


def test_who_was_killed_has_no_audit_to_compare_with() -> None:
    assert unexplained(books(credited=7, perhaps=3), {}) == 0


def test_a_clean_audit_has_no_faults() -> None:
    assert faults_in(AUDIT) == {}
    assert faults_in({**AUDIT, "rejected": 2, "min_balance_wei": "-1"}) == {
        "rejected": 2,
        "min_balance_wei": -1,
    }


@pytest.mark.long
@pytest.mark.asyncio
async def test_a_minute_of_faults_breaks_no_promise(tmp_path: Path) -> None:
    summary = await chaos(1, 3, tmp_path)
    assert summary["broken"] == []
    assert summary["faults"] >= 3
