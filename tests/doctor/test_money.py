"""What the doctor says of the ledger and the limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.doctor.finding import Level
from gateway.doctor.money import ledger_findings
from gateway.payments.ledger import Ledger
from gateway.payments.settings import PaymentSettings
from gateway.settings import read_flags
from harness.payment_models import PRICE
from tests.payments.ledgers import fill

FILLED = 182 * PRICE
"""Wei that `fill` has signed within the last hour."""


def settings(*flags: str) -> PaymentSettings:
    parsed = read_flags(["-maxPricePerUnit", "1ETH", *flags], {})
    return PaymentSettings.from_parsed(parsed, paid=True)[0]


@pytest.mark.asyncio
async def test_a_ledger_that_is_not_there_yet_is_no_fault(tmp_path: Path) -> None:
    findings, _ = await ledger_findings(str(tmp_path / "none.sqlite3"), settings())
    assert [finding.level for finding in findings] == [Level.OK]
    assert not (tmp_path / "none.sqlite3").exists()


@pytest.mark.asyncio
async def test_a_ledger_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").write_bytes(b"not a database" * 100)
    findings, _ = await ledger_findings(str(tmp_path / "ledger.sqlite3"), settings())
    assert [finding.level for finding in findings] == [Level.FAULT]


@pytest.mark.parametrize(
    ("limit", "level"), [(2 * FILLED, Level.OK), (FILLED * 5 // 4, Level.WARNING), (FILLED, Level.WARNING)]
)
@pytest.mark.asyncio
async def test_limits_are_held_against_what_was_spent(tmp_path: Path, limit: int, level: Level) -> None:
    where = str(tmp_path / "ledger.sqlite3")
    ledger = await Ledger.open(where)  # as a gateway that runs meanwhile
    await fill(ledger)
    findings, _ = await ledger_findings(where, settings("-maxSpendPerDay", str(limit)))
    await ledger.close()
    read, day = findings
    assert read.level is Level.OK
    assert (day.name, day.level) == ("-maxSpendPerDay", level)
    assert day.figures == {"spent_wei": str(FILLED), "limit_wei": str(limit)}
