"""Reading the ledger, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from gateway.payments.books import MINUTE
from gateway.payments.database import Database
from gateway.payments.ledger import Ledger
from gateway.payments.ledger_reader import PAGE, LedgerReader
from gateway.payments.ledger_rows import Grouping, utc
from gateway.payments.report import payment_row, session_json, session_row, signer_call_row
from gateway.payments.signing_rules import SECOND_RULES, PaymentFlow
from gateway.payments.steps import Outcome
from gateway.reason import EndReason
from harness.payment_models import PRICE
from tests.payments.ledgers import fill, pay, payment, record


@pytest.mark.asyncio
async def test_each_wei_is_credited_refused_uncertain_or_unspent(where: str) -> None:
    ledger = await Ledger.open(where)
    ids = await fill(ledger)
    sessions = [account async for account in ledger.reader.sessions(payments=True)]
    assert [account.row["id"] for account in sessions] == ids
    assert [{o.value: account.total.wei[o] // PRICE for o in Outcome} for account in sessions] == [
        {"credited": 61, "handed_out": 0, "refused": 0, "uncertain": 1, "unspent": 0},
        {"credited": 0, "handed_out": 0, "refused": 60, "uncertain": 0, "unspent": 0},
        {"credited": 0, "handed_out": 0, "refused": 0, "uncertain": 0, "unspent": 60},
    ]
    row = session_row(sessions[0])
    assert (row["credited_wei"], row["owed_wei"]) == (str(61 * PRICE), str(3 * PRICE // 7))
    assert row["reason"] == "orchestrator_lost"
    assert payment_row(sessions[0], sessions[0].payments[2])["outcome"] == "uncertain"
    of_one = [a.row["id"] async for a in ledger.reader.sessions(stream="two")]
    assert of_one == ids[1:]
    by_name = [a.row["id"] async for a in ledger.reader.sessions(stream="cam")]
    assert by_name == ids
    await ledger.close()


@pytest.mark.asyncio
async def test_totals_are_by_day_orchestrator_stream_and_publisher(where: str) -> None:
    ledger = await Ledger.open(where)
    await fill(ledger)
    (day,) = await ledger.reader.totals(Grouping.DAY)
    assert day.key == utc(time.time_ns())[:10]
    assert (len(day.sessions), day.payments, day.tickets) == (3, 5, 182)
    assert day.wei[Outcome.CREDITED] == 61 * PRICE
    orchestrators = await ledger.reader.totals(Grouping.ORCHESTRATOR)
    assert [(t.key, t.wei[Outcome.UNSPENT] // PRICE) for t in orchestrators] == [("0xAA", 60), ("0xBB", 0)]
    (publisher,) = await ledger.reader.totals(Grouping.PUBLISHER)
    assert (publisher.key, publisher.payments) == ("", 5)
    streams = await ledger.reader.totals(Grouping.STREAM)
    assert [(t.key, t.payments) for t in streams] == [("one", 3), ("two", 2)]
    await ledger.close()


@pytest.mark.asyncio
async def test_recent_payments_are_found_without_those_that_were_never_sent(where: str) -> None:
    ledger = await Ledger.open(where)
    before = time.time_ns()
    await fill(ledger)
    withheld = await ledger.open_session(record("three"))
    await pay(ledger, withheld, 1, payment(5, 1, 60), "withheld")
    recent = await ledger.reader.signed_since(before)
    assert sum(wei for _, wei, _ in recent) == 182 * PRICE
    assert all(before <= at <= time.time_ns() + MINUTE for at, _, _ in recent)
    assert await ledger.reader.signed_since(time.time_ns() + MINUTE) == []
    await ledger.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(("app", "shown"), [("", "s3cr3t"), ("acme/app", None)])
async def test_the_session_of_a_live_runner_is_not_shown(tmp_path: Path, app: str, shown: str | None) -> None:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    flow = PaymentFlow(SECOND_RULES, "s3cr3t", app)
    session = await ledger.open_session(replace(record("one"), flow=flow))
    for number in (1, 2):
        await ledger.intended(session, number)
        made = payment(1, number, 1)
        await ledger.signed(session, number, made, manifest_id="s3cr3t", price=Fraction(PRICE))
    (one,) = [found async for found in ledger.reader.sessions(payments=True)]
    assert [made["manifest_id"] for made in session_json(one)["payments"]] == [None, shown]
    await ledger.close()


def test_times_are_written_in_utc_to_the_millisecond() -> None:
    assert utc(1_780_000_000_123_999_999) == "2026-05-28T20:26:40.123Z"


async def pages(
    reader: LedgerReader, stream: str, sessions: int, payments: int
) -> list[list[tuple[str, list[int]]]]:
    """All pages of a stream, the newest first: of each session's id the numbers of its payments."""
    found, before = [], None
    while True:
        page, before = await reader.page(
            stream, sessions_limit=sessions, payments_limit=payments, before=before
        )
        found.append([(one.row["id"], [payment.row["number"] for payment in one.payments]) for one in page])
        if before is None:
            return found


@pytest.mark.asyncio
async def test_the_newest_payments_come_with_the_sums_of_all_and_older_ones_on_further_pages(
    where: str,
) -> None:
    ledger = await Ledger.open(where)
    first = await ledger.open_session(record("long"))
    for number in range(1, 6):
        await pay(ledger, first, number, payment(number, 1, number), "delivered", "credited")
    await ledger.close_session(first, EndReason.DELETED)
    empty = await ledger.open_session(record("long"))
    last = await ledger.open_session(record("long"))
    await pay(ledger, last, 1, payment(9, 1, 60))
    await ledger.open_session(record("other"))
    page, _ = await ledger.reader.page("long", sessions_limit=9, payments_limit=3)
    assert [[payment.row["number"] for payment in one.payments] for one in page] == [[4, 5], [], [1]]
    assert (page[0].total.payments, page[0].total.tickets) == (5, 15)
    shown = session_json(page[0])
    assert (shown["payments_left_out"], shown["credited_wei"]) == (3, str(15 * PRICE))
    assert [step["step"] for step in shown["payments"][0]["steps"]] == [
        "intended", "signed", "delivered", "credited",
    ]  # fmt: skip
    assert page[2].total.wei[Outcome.UNSPENT] == 60 * PRICE
    assert await pages(ledger.reader, "long", 9, 3) == [
        [(first, [4, 5]), (empty, []), (last, [1])],
        [(first, [1, 2, 3])],
    ]
    assert await pages(ledger.reader, "long", 2, 9) == [
        [(empty, []), (last, [1])],
        [(first, [1, 2, 3, 4, 5])],
    ]
    assert await pages(ledger.reader, "long", 9, 1) == [
        [(last, [1])],
        [(first, [5]), (empty, [])],
        *([(first, [number])] for number in (4, 3, 2, 1)),
    ]
    assert await pages(ledger.reader, "long", 9, 6) == [[(first, [1, 2, 3, 4, 5]), (empty, []), (last, [1])]]
    assert await pages(ledger.reader, "nobody", 9, 6) == [[]]
    await ledger.close()


@pytest.mark.asyncio
async def test_a_long_session_is_read_in_pages_and_many_short_ones_together(where: str) -> None:
    ledger = await Ledger.open(where)
    long = await ledger.open_session(record("long"))
    async with asyncio.TaskGroup() as group:
        for number in range(1, 2 * PAGE + 2):
            if number % 50 == 0:
                group.create_task(_short(ledger, number))
            await pay(ledger, long, number, payment(number, 1, 1), "delivered", "credited")
    read = {
        session.row["id"]: [payment.row["number"] async for payment in ledger.reader.payments_of(session)]
        async for session in ledger.reader.sessions(payments=True)
    }
    assert read.pop(long) == list(range(1, 2 * PAGE + 2))
    assert list(read.values()) == [[1]] * (2 * PAGE // 50)
    await ledger.close()


async def _short(ledger: Ledger, number: int) -> None:
    session = await ledger.open_session(record("short"))
    await pay(ledger, session, 1, payment(10_000 + number, 1, 1))


@pytest.mark.asyncio
async def test_hashes_that_begin_alike_are_read_page_by_page_each_payment_once(
    where: str,
) -> None:
    ledger = await Ledger.open(where)
    session = await ledger.open_session(record("one"))
    begin_alike = [1, 2, 2**199, 2**200, 2**200 + 1, 2**201, 2**255, 2**255 + 1]
    made = [(rand, nonce) for rand in reversed(begin_alike) for nonce in (2, 1)]
    for number, (rand, nonce) in enumerate(made, 1):
        await pay(ledger, session, number, payment(rand, nonce, 1), "delivered")
    database = await Database.open_to_read(where)
    rows = [row async for row in LedgerReader(database, page=3).nonces()]
    await database.close()
    found = [(int.from_bytes(row["recipient_rand_hash"], "big"), row["first_nonce"]) for row in rows]
    assert found == sorted(made)
    await ledger.close()


@pytest.mark.asyncio
async def test_calls_to_the_signer_come_with_their_fee_as_far_as_it_is_known(where: str) -> None:
    ledger = await Ledger.open(where)
    session = await ledger.open_session(record("one"))
    await pay(ledger, session, 1, payment(1, 1, 60), "delivered", "credited")
    await ledger.intended(session, 2)
    await ledger.lost(session, 2, Fraction(10 * PRICE, 3), "reset")
    await pay(ledger, session, 2, payment(1, 61, 2), "withheld")
    await ledger.intended(session, 3)
    await ledger.close()
    ledger = await Ledger.open(where)
    rows = [signer_call_row(call) async for call in ledger.reader.signer_calls()]
    await ledger.close()
    assert [(row["number"], row["call"], row["fee_wei"], row["max_fee_wei"]) for row in rows] == [
        (1, "signed", str(60 * PRICE), str(60 * PRICE)),
        (2, "lost", None, str(10 * PRICE // 3)),
        (2, "withheld", str(2 * PRICE), str(2 * PRICE)),
        (3, "lost", None, None),
    ]
    assert [row["detail"] for row in rows[1:3]] == ["reset", "why"]
