"""What the ledger's lines write, on a real file and on a real PostgreSQL server."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from gateway.payments.job_identity import JobIdentity
from gateway.payments.ledger import Ledger, SessionRecord
from gateway.payments.ledger_rows import Call, LedgerSession
from gateway.payments.payment import Payment
from gateway.payments.steps import Outcome
from gateway.payments.verify import verify
from gateway.reason import EndReason
from harness.payment_models import SENDER_TEXT, orchestrator_info, signed_payment
from tests.payments.ledgers import credited, history


def record(stream_id: str = "cam") -> SessionRecord:
    return SessionRecord(
        job=JobIdentity(stream="cam", stream_id=stream_id, request_id="r1", addr="127.0.0.1:8935"),
        sender=SENDER_TEXT,
        orchestrator_address="0x00",
        orchestrator_url="https://127.0.0.1:8935",
        price=Fraction(10**15 + 1, 3),
        ceiling=None,
        interval_ns=5 * 10**9,
    )


def payment(ticket_wei: int = 10**15, tickets: int = 3, first_nonce: int = 1) -> Payment:
    info = orchestrator_info(price=ticket_wei)
    return Payment.read(signed_payment(info, first_nonce, tickets))


async def sign(ledger: Ledger, session: str, number: int, made: Payment) -> None:
    await ledger.intended(session, number)
    await ledger.signed(session, number, made, manifest_id="m", price=Fraction(10**15))
    await ledger.delivered(session, number)


async def sessions_of(ledger: Ledger, **wanted: Any) -> list[LedgerSession]:
    return [session async for session in ledger.reader.sessions(payments=True, **wanted)]


@pytest.mark.asyncio
async def test_the_steps_of_a_session_are_in_order(where: str) -> None:
    ledger = await Ledger.open(where)
    session = await ledger.open_session(record())
    await sign(ledger, session, 1, payment())
    await ledger.unknown(session, 1, "reset")
    await ledger.delivered(session, 1, "attempt 2")
    await ledger.credited(session, 1)
    await ledger.intended(session, 2)
    await ledger.close_session(session, EndReason.PUBLISHER_LEFT, owed=Fraction(1, 3))
    steps = await history(ledger)
    (found,) = await sessions_of(ledger)
    await ledger.close()
    assert steps == [
        "intended", "signed", "delivered", "unknown", "delivered", "credited", "intended", "closed",
    ]  # fmt: skip
    assert found.closed is not None
    assert (found.closed["reason"], found.closed["owed"]) == ("publisher_left", Fraction(1, 3))
    assert found.row["price"] == Fraction(10**15 + 1, 3)
    assert found.row["ceiling"] is None
    (paid,) = found.payments
    assert all(step["wall_ns"] > 10**18 and step["monotonic_ns"] > 0 for step in paid.steps)
    assert [step["detail"] for step in paid.steps] == ["", "", "", "reset", "attempt 2", ""]
    assert (paid.row["tickets"], paid.row["first_nonce"], paid.row["last_nonce"]) == (3, 1, 3)
    assert paid.row["win_prob"] == 2**256 - 1


@pytest.mark.asyncio
async def test_a_hundred_eth_and_a_third_of_a_wei_are_kept_exactly(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    session = await ledger.open_session(record())
    await sign(ledger, session, 1, payment(ticket_wei=100 * 10**18, tickets=7))
    await ledger.credited(session, 1)
    assert await credited(ledger) == 700 * 10**18
    await ledger.close()
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as connection:
        stored = connection.execute("SELECT hex(face_value), typeof(face_value) FROM payments").fetchone()
        price = connection.execute("SELECT price FROM sessions").fetchone()
    connection.close()
    assert stored == (f"{100 * 10**18:018X}", "blob")
    assert price == ("1000000000000001/3",)


@pytest.mark.asyncio
async def test_only_what_was_credited_counts_once_and_by_stream(where: str) -> None:
    ledger = await Ledger.open(where)
    one, two = await ledger.open_session(record("one")), await ledger.open_session(record("two"))
    for session in (one, two):
        for number in (1, 2, 3):
            await sign(ledger, session, number, payment(first_nonce=10 * number))
        await ledger.credited(session, 1)
        await ledger.credited(session, 1, "already seen")
        await ledger.refused(session, 2, "403")
        await ledger.unknown(session, 3, "time-out")
    await ledger.credited(two, 3)
    assert await credited(ledger, "one") == 3 * 10**15
    assert await credited(ledger, "two") == 6 * 10**15
    assert await credited(ledger) == 9 * 10**15
    assert await credited(ledger, "three") == 0
    assert len(await sessions_of(ledger, stream="one")) == 1
    await ledger.close()


@pytest.mark.asyncio
async def test_a_session_that_a_crash_left_open_is_closed_at_the_next_start(where: str) -> None:
    ledger = await Ledger.open(where)
    await ledger.open_session(record())
    closed = await ledger.open_session(record())
    await ledger.close_session(closed, EndReason.DELETED)
    await ledger.close()
    for _ in range(2):
        ledger = await Ledger.open(where)
        one, other = [found.closed for found in await sessions_of(ledger)]
        assert one is not None
        assert other is not None
        assert (one["reason"], other["reason"]) == ("internal_error", "deleted")
        assert "found open" in one["detail"]
        await ledger.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("lines", "sums"),
    [
        (0, (0, 0, 0)),  # credited, uncertain, unspent tickets
        (1, (0, 0, 0)),
        (2, (0, 0, 60)),
        (3, (0, 60, 0)),
        (4, (60, 0, 0)),
        (5, (60, 0, 0)),
        (6, (60, 0, 2)),
        (7, (60, 2, 0)),
        (8, (60, 2, 0)),
        (9, (60, 2, 0)),
        (10, (62, 0, 0)),
        (11, (62, 0, 0)),
    ],
)
async def test_after_a_crash_at_any_step_the_next_start_has_the_right_sums(
    tmp_path: Path, lines: int, sums: tuple[int, int, int]
) -> None:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    session = await ledger.open_session(replace(record(), price=Fraction(10**15)))
    first, second = payment(tickets=60), payment(tickets=2, first_nonce=61)
    price = Fraction(10**15)
    writes = (
        lambda: ledger.intended(session, 1),
        lambda: ledger.signed(session, 1, first, manifest_id="", price=price),
        lambda: ledger.delivered(session, 1, "job start"),
        lambda: ledger.credited(session, 1),
        lambda: ledger.intended(session, 2),
        lambda: ledger.signed(session, 2, second, manifest_id="m", price=price),
        lambda: ledger.delivered(session, 2),
        lambda: ledger.unknown(session, 2, "reset"),
        lambda: ledger.delivered(session, 2, "attempt 2"),
        lambda: ledger.credited(session, 2, "already seen"),
        lambda: ledger.close_session(session, EndReason.DELETED, owed=Fraction(1)),
    )
    for write in writes[:lines]:
        await write()
    await ledger.close()  # what is on disk is what a crash leaves
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    verification = await verify(ledger.reader)
    calls = [call async for call in ledger.reader.signer_calls()]
    await ledger.close()
    assert (verification.findings, verification.open_sessions, verification.sessions) == ([], 0, 1)
    found = [verification.wei[o] for o in (Outcome.CREDITED, Outcome.UNCERTAIN, Outcome.UNSPENT)]
    assert found == [tickets * price for tickets in sums]
    assert verification.wei[Outcome.REFUSED] == 0
    assert [call.number for call in calls if call.call is Call.LOST] == {1: [1], 5: [2]}.get(lines, [])


@pytest.mark.asyncio
async def test_a_first_payment_whose_job_did_not_start_is_handed_out_until_it_is_credited(where: str) -> None:
    ledger = await Ledger.open(where)
    session = await ledger.open_session(record())
    await sign(ledger, session, 1, payment())
    await ledger.handed_out(session, 1, "503")
    (found,) = await sessions_of(ledger)
    assert found.total.wei[Outcome.HANDED_OUT] == 3 * 10**15
    assert sum(wei for _, wei, _ in await ledger.reader.signed_since(0)) == 3 * 10**15
    assert [some.tickets for some in await ledger.redemptions.handed_out()] == [3]
    await ledger.delivered(session, 1, "the same bytes once more")
    await ledger.credited(session, 1)
    (found,) = await sessions_of(ledger)
    assert (found.total.wei[Outcome.HANDED_OUT], found.total.wei[Outcome.CREDITED]) == (0, 3 * 10**15)
    assert [some.tickets for some in await ledger.redemptions.handed_out()] == [3]
    await ledger.close()


@pytest.mark.asyncio
async def test_texts_from_outside_are_kept_as_what_can_be_printed(where: str) -> None:
    ledger = await Ledger.open(where)
    made = replace(record(), orchestrator_url="https://orchestrator\0.example/\udc80\x1b[31m" + "x" * 5000)
    session = await ledger.open_session(made)
    await sign(ledger, session, 1, payment())
    await ledger.unknown(session, 1, "reset\0\n" + "x" * 5000)
    await ledger.close_session(session, EndReason.DELETED, "\ud800")
    (found,) = await sessions_of(ledger)
    assert found.row["orchestrator_url"].startswith("https://orchestrator?.example/??[31mxxx")
    assert len(found.row["orchestrator_url"]) == 2048
    assert found.payments[0].steps[-1]["detail"] == "reset??" + "x" * 293
    assert found.closed is not None
    assert found.closed["detail"] == "?"
    await ledger.close()


@pytest.mark.asyncio
async def test_wei_are_counted_for_who_publishes_however_long_the_name(where: str) -> None:
    ledger = await Ledger.open(where)
    long = "".join(chr(0x20000 + number) for number in range(3000))  # four bytes each, and hard to compress
    for publisher in ("token 1", long, "token 1", ""):
        session = await ledger.open_session(replace(record(), publisher=publisher))
        await sign(ledger, session, 1, payment())
    assert [found.row["publisher"] for found in await sessions_of(ledger)][:2] == ["token 1", long[:500]]
    spent: dict[str, Fraction] = {}
    for _, wei, publisher in await ledger.reader.signed_since(0):
        spent[publisher] = spent.get(publisher, Fraction(0)) + wei
    assert spent == {"token 1": 6 * 10**15, long[:500]: 3 * 10**15, "": 3 * 10**15}
    await ledger.close()
