"""What the ledger's check finds, and what it does not; on SQLite and on PostgreSQL."""

from __future__ import annotations

from fractions import Fraction

import pytest
from sqlalchemy import text

from gateway.payments.ledger import Clocks, Ledger
from gateway.payments.steps import Outcome
from gateway.payments.verify import verify
from gateway.reason import EndReason
from harness.payment_models import PRICE
from tests.payments.ledgers import fill, pay, payment, record


@pytest.mark.asyncio
async def test_a_consistent_ledger_has_no_findings(where: str) -> None:
    ledger = await Ledger.open(where)
    await fill(ledger)
    verification = await verify(ledger.reader)
    assert verification.findings == []
    assert (verification.sessions, verification.payments, verification.open_sessions) == (3, 5, 0)
    await ledger.close()


async def spoil(ledger: Ledger, *changes: str) -> None:
    await ledger.execute(*(text(change) for change in changes))


@pytest.mark.asyncio
async def test_inconsistencies_are_found(where: str) -> None:
    ledger = await Ledger.open(where)
    session = await ledger.open_session(record("one"))
    await pay(ledger, session, 1, payment(1, 1, 60), "delivered", "credited")
    await pay(ledger, session, 2, payment(1, 60, 1), "delivered", "credited")
    await pay(ledger, session, 3, payment(1, 62, 1), "delivered", "credited", price=Fraction(PRICE + 1))
    await pay(ledger, session, 5, payment(1, 63, 9), "delivered", "handed_out")
    await ledger.close_session(session, EndReason.DELETED)
    await spoil(
        ledger,
        "UPDATE payments SET course = 's1' || chr(10) || 'c2' WHERE number = 3".replace(
            "chr(10)", "char(10)" if "sqlite" in where else "chr(10)"
        ),
        "UPDATE payments SET state = 'refused' WHERE number = 2",
        "UPDATE session_days SET payments = 3",
    )
    findings = [finding for _, finding in (await verify(ledger.reader)).findings]
    await ledger.close()
    for words in (
        "payment 2 is refused, and its last step was credited",
        "payment 2 uses nonces 60 to 60 a second time",
        "payment 3 has step credited after signed",
        "above the session's first",
        "above the operator's ceiling",
        "has payments up to number 5, and 3 in its sums",
        f"{PRICE} wei of its payments are refused, and its sums say 0",
        "wei were signed in total, where at most",
    ):
        assert any(words in finding for finding in findings), (words, findings)


@pytest.mark.asyncio
async def test_a_payment_that_is_missing_is_found_and_one_that_was_removed_is_not(where: str) -> None:
    day, now = 86_400 * 10**9, [1_780_000_000 * 10**9]
    ledger = await Ledger.open(where, clocks=Clocks(lambda: now[0]))
    session = await ledger.open_session(record("one"))
    for number in range(1, 5):
        await pay(ledger, session, number, payment(number, 1, 1), "delivered", "credited")
        now[0] += day
    assert await ledger.retention.remove(2 * day) == 2
    verification = await verify(ledger.reader)
    assert (verification.payments, verification.findings) == (2, [])
    assert verification.wei[Outcome.CREDITED] == 4 * PRICE
    await spoil(ledger, "UPDATE session_days SET payments = 0")
    assert any("up to number 4" in finding for _, finding in (await verify(ledger.reader)).findings)
    await ledger.close()


@pytest.mark.asyncio
async def test_a_session_that_was_not_closed_counts_as_open(where: str) -> None:
    ledger = await Ledger.open(where)
    await ledger.open_session(record("one"))
    verification = await verify(ledger.reader)
    assert (verification.open_sessions, verification.findings) == (1, [])
    await ledger.close()
