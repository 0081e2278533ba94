"""The ledger on a real file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from gateway.payments.ledger import Ledger, LedgerBusy, LedgerError, SessionRecord
from gateway.payments.payment import Payment
from gateway.stream.reason import EndReason
from tests.payments.models import SENDER_TEXT, orchestrator_info, signed_payment


def record(stream_id: str = "cam") -> SessionRecord:
    return SessionRecord(
        stream="cam",
        stream_id=stream_id,
        request_id="r1",
        sender=SENDER_TEXT,
        orchestrator_address="0x00",
        orchestrator_url="https://127.0.0.1:8935",
        orchestrator_addr="127.0.0.1:8935",
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


@pytest.mark.asyncio
async def test_a_session_tells_what_happened_in_order(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path / "new" / "ledger.sqlite3")
    session = await ledger.open_session(record())
    await sign(ledger, session, 1, payment())
    await ledger.unknown(session, 1, "reset")
    await ledger.delivered(session, 1, "attempt 2")
    await ledger.credited(session, 1)
    await ledger.intended(session, 2)
    await ledger.close_session(session, EndReason.PUBLISHER_LEFT)
    steps = await ledger.step_rows(session)
    (row,) = await ledger.session_rows()
    (paid,) = await ledger.payment_rows(session)
    await ledger.close()
    assert [step["step"] for step in steps] == [
        "intended", "signed", "delivered", "unknown", "delivered", "credited", "intended", "closed",
    ]  # fmt: skip
    assert steps[-1]["reason"] == "publisher_left"
    assert all(step["wall_ns"] > 10**18 and step["monotonic_ns"] > 0 for step in steps)
    assert row["price"] == Fraction(10**15 + 1, 3)
    assert row["ceiling"] is None
    assert (paid["tickets"], paid["first_nonce"], paid["last_nonce"]) == (3, 1, 3)
    assert paid["win_prob"] == 2**256 - 1


@pytest.mark.asyncio
async def test_a_hundred_eth_and_a_third_of_a_wei_are_kept_exactly(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    session = await ledger.open_session(record())
    await sign(ledger, session, 1, payment(ticket_wei=100 * 10**18, tickets=7))
    await ledger.credited(session, 1)
    assert await ledger.credited_wei() == 700 * 10**18
    await ledger.close()
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as connection:
        stored = connection.execute("SELECT face_value, typeof(face_value) FROM payments").fetchone()
        price = connection.execute("SELECT price FROM sessions").fetchone()
    connection.close()
    assert stored == (str(100 * 10**18), "text")
    assert price == ("1000000000000001/3",)


@pytest.mark.asyncio
async def test_only_what_was_credited_counts_once_and_by_stream(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    one, two = await ledger.open_session(record("one")), await ledger.open_session(record("two"))
    for session in (one, two):
        for number in (1, 2, 3):
            await sign(ledger, session, number, payment(first_nonce=10 * number))
        await ledger.credited(session, 1)
        await ledger.credited(session, 1, "already seen")
        await ledger.refused(session, 2, "403")
        await ledger.unknown(session, 3, "time-out")
    await ledger.credited(two, 3)
    assert await ledger.credited_wei("one") == 3 * 10**15
    assert await ledger.credited_wei("two") == 6 * 10**15
    assert await ledger.credited_wei() == 9 * 10**15
    assert await ledger.credited_wei("three") == 0
    assert len(await ledger.session_rows("one")) == 1
    await ledger.close()


@pytest.mark.asyncio
async def test_a_second_gateway_is_told_that_the_ledger_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    first = await Ledger.open(path)
    with pytest.raises(LedgerBusy, match="in use by another gateway"):
        await Ledger.open(path)
    await first.close()
    again = await Ledger.open(f"sqlite:///{path}")
    await again.close()
    await again.close()


@pytest.mark.asyncio
async def test_a_session_that_a_crash_left_open_is_closed_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    ledger = await Ledger.open(path)
    session = await ledger.open_session(record())
    closed = await ledger.open_session(record())
    await ledger.close_session(closed, EndReason.DELETED)
    await ledger.close()
    for _ in range(2):
        ledger = await Ledger.open(path)
        (step,) = await ledger.step_rows(session)
        assert (step["step"], step["reason"]) == ("closed", "internal_error")
        assert "found open" in step["detail"]
        assert len(await ledger.step_rows(closed)) == 1
        await ledger.close()


@pytest.mark.asyncio
async def test_writes_at_once_are_all_written(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    session = await ledger.open_session(record())
    async with asyncio.TaskGroup() as group:
        for number in range(1, 301):
            group.create_task(ledger.intended(session, number))
    assert len(await ledger.step_rows(session)) == 300
    await ledger.close()


@pytest.mark.asyncio
async def test_a_write_that_cannot_be_made_hurts_only_those_written_with_it(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    with pytest.raises(LedgerError, match="ledger failed"):
        await ledger.intended("no such session", 1)
    session = await ledger.open_session(record())
    await ledger.intended(session, 1)
    await ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        await ledger.intended(session, 2)


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE schema_version (version INTEGER PRIMARY KEY, wall_ns BIGINT)")
        connection.execute("INSERT INTO schema_version VALUES (99, 0)")
    connection.close()


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database, whatever its name says" * 100)


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("spoil", "words"),
    [(_newer, "schema version 99"), (_garbage, "not a database"), (_folder, "unable to open")],
)
async def test_a_file_that_is_no_ledger_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "ledger.sqlite3"
    spoil(path)
    for _ in range(2):  # the second time shows that the lock was given back
        with pytest.raises(LedgerError, match=words):
            await Ledger.open(path)


@pytest.mark.asyncio
@pytest.mark.parametrize("url", ["mysql://host/ledger", "sqlite://", "x://["])
async def test_a_url_that_is_no_ledger_is_refused(url: str) -> None:
    with pytest.raises(LedgerError, match="path or sqlite"):
        await Ledger.open(url)
