"""Reading and checking the ledger, on SQLite and on PostgreSQL."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest

from gateway.payments.ledger import Ledger
from gateway.payments.ledger_reader import Grouping, LedgerReader, Outcome, utc
from gateway.payments.report import payment_row, session_json, session_row
from gateway.payments.verify import Verification
from gateway.reason import EndReason
from harness.payment_models import PRICE
from tests.payments.ledgers import fill, pay, payment, record


async def verified(ledger_reader: LedgerReader) -> Verification:
    verification = Verification()
    async for account in ledger_reader.sessions():
        verification.take(account)
    return verification


@pytest.mark.asyncio
async def test_each_wei_is_credited_refused_uncertain_or_unspent(where: str) -> None:
    ledger = await Ledger.open(where)
    ids = await fill(ledger)
    sessions = [account async for account in ledger.reader.sessions()]
    assert [account.row["id"] for account in sessions] == ids
    assert [{o.value: account.total.wei[o] // PRICE for o in Outcome} for account in sessions] == [
        {"credited": 61, "refused": 0, "uncertain": 1, "unspent": 0},
        {"credited": 0, "refused": 60, "uncertain": 0, "unspent": 0},
        {"credited": 0, "refused": 0, "uncertain": 0, "unspent": 60},
    ]
    row = session_row(sessions[0])
    assert (row["credited_wei"], row["owed_wei"]) == (str(61 * PRICE), str(3 * PRICE // 7))
    assert row["reason"] == "orchestrator_lost"
    assert payment_row(sessions[0], sessions[0].payments[2])["outcome"] == "uncertain"
    newest = [a.row["id"] async for a in ledger.reader.sessions(stream="two", newest=1)]
    assert newest == ids[2:]
    by_name = [a.row["id"] async for a in ledger.reader.sessions(stream="cam")]
    assert by_name == ids
    await ledger.close()


@pytest.mark.asyncio
async def test_totals_are_by_day_orchestrator_and_stream(where: str) -> None:
    ledger = await Ledger.open(where)
    await fill(ledger)
    (day,) = await ledger.reader.totals(Grouping.DAY)
    assert day.key == utc(time.time_ns())[:10]
    assert (len(day.sessions), day.payments, day.tickets) == (3, 5, 182)
    assert day.wei[Outcome.CREDITED] == 61 * PRICE
    orchestrators = await ledger.reader.totals(Grouping.ORCHESTRATOR)
    assert [(t.key, t.wei[Outcome.UNSPENT] // PRICE) for t in orchestrators] == [("0xAA", 60), ("0xBB", 0)]
    streams = await ledger.reader.totals(Grouping.STREAM)
    assert [(t.key, t.payments) for t in streams] == [("one", 3), ("two", 2)]
    await ledger.close()


@pytest.mark.asyncio
async def test_recent_payments_are_found_without_those_that_were_never_sent(where: str) -> None:
    ledger = await Ledger.open(where)
    before = time.time_ns()
    await fill(ledger)
    withheld = await ledger.open_session(record("three"))
    await pay(ledger, withheld, 1, payment(5, 1, 60), "refused")
    recent = await ledger.reader.signed_since(before)
    assert sorted(wei // PRICE for _, wei in recent) == [1, 1, 60, 60, 60]
    assert all(before <= at <= time.time_ns() for at, _ in recent)
    assert await ledger.reader.signed_since(time.time_ns()) == []
    await ledger.close()


@pytest.mark.asyncio
async def test_a_consistent_ledger_has_no_findings(where: str) -> None:
    ledger = await Ledger.open(where)
    await fill(ledger)
    verification = await verified(ledger.reader)
    assert verification.findings == []
    assert (verification.sessions, verification.payments, verification.open_sessions) == (3, 5, 0)
    await ledger.close()


@pytest.mark.asyncio
async def test_inconsistencies_are_found(where: str) -> None:
    ledger = await Ledger.open(where)
    session = await ledger.open_session(record("one"))
    await pay(ledger, session, 1, payment(1, 1, 60), "delivered", "credited", "credited")
    await pay(ledger, session, 2, payment(1, 60, 1), "delivered", "credited")
    await pay(ledger, session, 3, payment(1, 62, 1), "credited", price=Fraction(PRICE + 1))
    await pay(ledger, session, 5, payment(1, 63, 9), "delivered", "credited")
    await ledger.credited(session, 6)
    await ledger.close_session(session, EndReason.DELETED)
    await ledger.close_session(session, EndReason.DELETED)
    findings = [finding for _, finding in (await verified(ledger.reader)).findings]
    await ledger.close()
    for words in (
        "has step credited after credited",
        "payment 2 uses nonces 60 to 60 a second time",
        "has step credited after signed",
        "above the session's first",
        "above the operator's ceiling",
        "numbers of its payments are not consecutive: [1, 2, 3, 5]",
        "step credited is of a payment that does not exist",
        "closed 2 times",
        "wei were signed in total, where at most",
    ):
        assert any(words in finding for finding in findings), (words, findings)


@pytest.mark.asyncio
async def test_a_session_that_was_not_closed_counts_as_open(where: str) -> None:
    ledger = await Ledger.open(where)
    await ledger.open_session(record("one"))
    verification = await verified(ledger.reader)
    assert (verification.open_sessions, verification.findings) == (1, [])
    await ledger.close()


def test_times_are_written_in_utc_to_the_millisecond() -> None:
    assert utc(1_780_000_000_123_999_999) == "2026-05-28T20:26:40.123Z"


@pytest.mark.asyncio
async def test_the_newest_payments_come_with_the_sums_of_all(where: str) -> None:
    ledger = await Ledger.open(where)
    session = await ledger.open_session(record("long"))
    for number in range(1, 6):
        await pay(ledger, session, number, payment(number, 1, number), "delivered", "credited")
    await ledger.close_session(session, EndReason.DELETED)
    other = await ledger.open_session(record("long"))
    await pay(ledger, other, 1, payment(9, 1, 60))
    (one, two) = [account async for account in ledger.reader.sessions(payments_each=2)]
    await ledger.close()
    assert [paid.row["number"] for paid in one.payments] == [4, 5]
    assert [len(paid.steps) for paid in one.payments] == [4, 4]
    assert [step["step"] for step in one.steps] == ["closed"]
    assert (one.total.payments, one.total.tickets) == (5, 15)
    assert session_json(one)["payments_left_out"] == 3
    assert session_json(one)["credited_wei"] == str(15 * PRICE)
    assert (len(two.payments), two.total.wei[Outcome.UNSPENT]) == (1, 60 * PRICE)
