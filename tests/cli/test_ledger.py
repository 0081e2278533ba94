"""The `ledger` command."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sqlite3
import sys
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import pytest

from gateway.candidates.trust import Trust
from gateway.cli.ledger import main
from gateway.payments.ledger import Ledger
from gateway.reason import EndReason
from harness.payment_models import PRICE
from harness.waiting import within
from tests.payments.ledgers import fill, pay, payment, record


def filled(where: str) -> None:
    """A ledger with payments of every outcome."""

    async def make() -> None:
        ledger = await Ledger.open(where)
        await fill(ledger)
        await ledger.close()

    asyncio.run(make())


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = main(argv, {})
    out, err = capsys.readouterr()
    return status, out, err


def test_orchestrators_are_shown_with_what_they_delivered(
    where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    address = "0x" + "a" * 40

    async def make() -> None:
        ledger, trust = await Ledger.open(where), Trust()
        start = trust.begin(address)
        start.paid()
        start.end(Fraction(60 * PRICE))
        trust.pays("o.example:8935", address)
        trust.fault(address, "no picture", took_pay=True)
        keeping = asyncio.get_running_loop().create_task(ledger.trust.keep(trust))
        await asyncio.sleep(0)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await ledger.close()

    asyncio.run(make())
    status, out, _ = run(capsys, "orchestrators", "-ledger", where, "-format", "json")
    (row,) = json.loads(out)
    assert status == 0
    assert 25 <= row.pop("suspended_s") <= 30
    assert row == {
        "address": address,
        "paid_wei": str(60 * PRICE),
        "delivered_s": 0.0,
        "starts": 1,
        "empty_starts": 1,
        "proven": False,
        "starts_at_once": 1,
        "faults": 1,
        "reason": "no picture",
        "paid_at": "o.example:8935",
    }


def test_sessions_payments_and_totals_come_in_every_format(
    where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(where)
    status, out, _ = run(capsys, "sessions", "-ledger", where, "--format", "json")
    sessions = json.loads(out)
    assert status == 0
    assert [session["credited_wei"] for session in sessions] == [str(61 * PRICE), "0", "0"]

    status, out, _ = run(capsys, "payments", "-ledger", where, "-stream", "one", "--format=csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["number"], row["outcome"], row["wei"]) for row in rows] == [
        ("1", "credited", str(60 * PRICE)),
        ("2", "credited", str(PRICE)),
        ("3", "uncertain", str(PRICE)),
    ]

    status, out, _ = run(capsys, "totals", "-ledger", where, "--by", "orchestrator")
    header, first, second = out.splitlines()
    sums = ["credited_wei", "handed_out_wei", "uncertain_wei", "refused_wei", "unspent_wei"]
    assert header.split() == ["key", "sessions", "payments", "tickets", *sums]
    assert first.split() == ["0xAA", "2", "4", "122", str(61 * PRICE), "0", str(PRICE), "0", str(60 * PRICE)]
    assert second.split()[0] == "0xBB"


def test_signings_are_all_calls_that_may_be_billed(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def make() -> None:
        ledger = await Ledger.open(where)
        session = await ledger.open_session(record("one"))
        await pay(ledger, session, 1, payment(1, 1, 60), "delivered", "handed_out")
        await ledger.intended(session, 2)
        await ledger.lost(session, 2, Fraction(PRICE, 2), "=cmd|' /C calc'!A0")
        await ledger.close_session(session, EndReason.DELETED)
        await ledger.close()

    asyncio.run(make())
    status, out, _ = run(capsys, "signings", "-ledger", where, "-format", "json")
    assert status == 0
    assert [(row["call"], row["fee_wei"], row["max_fee_wei"]) for row in json.loads(out)] == [
        ("signed", str(60 * PRICE), str(60 * PRICE)),
        ("lost", None, str(PRICE // 2)),
    ]
    _, out, _ = run(capsys, "signings", "-ledger", where, "-format", "csv")
    assert [row["detail"] for row in csv.DictReader(io.StringIO(out))] == ["", "'=cmd|' /C calc'!A0"]
    _, out, _ = run(capsys, "signings", "-ledger", where, "-stream", "one")
    assert [line.split()[3] for line in out.splitlines()] == ["call", "signed", "lost"]
    _, out, _ = run(capsys, "payments", "-ledger", where, "-format", "json")
    assert [row["outcome"] for row in json.loads(out)] == ["handed_out"]


def test_usage_is_for_bills(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    filled(where)
    flags = ("-ledger", where, "-by", "orchestrator", "-every", "all", "-markup", "1.5")
    status, out, _ = run(capsys, "usage", *flags, "--json")
    assert status == 0
    first, second = json.loads(out)
    assert first == {
        "key": "0xAA",
        "period": "",
        "streams": 1,
        "sessions": 2,
        "seconds": "0.428",
        "payments": 4,
        "spent_wei": str(62 * PRICE),
        "charged_wei": str(93 * PRICE),
    }
    assert (second["key"], second["spent_wei"]) == ("0xBB", "0")
    status, out, _ = run(capsys, "usage", *flags, "-from", "2020-01-01", "-to", "2020-12-31", "--csv")
    assert out.splitlines() == ["period,key,streams,sessions,seconds,payments,spent_wei,charged_wei"]
    status, _, err = run(capsys, "totals", "-ledger", where, "-by", "customer")
    assert status == 2
    assert "-by 'customer' is refused: it takes one of day, orchestrator, stream, publisher" in err


def test_verify_finds_inconsistencies_only_where_there_are_some(
    where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(where)
    status, out, err = run(capsys, "verify", "-ledger", where, "-format", "json")
    assert (status, err) == (0, "")
    assert json.loads(out)[0]["findings"] == 0

    async def spoil() -> None:
        ledger = await Ledger.open(where)
        session = await ledger.open_session(record("bad"))
        await pay(ledger, session, 2, payment(9, 1, 1), "delivered", "credited")
        await ledger.close_session(session, EndReason.DELETED)
        await ledger.close()

    asyncio.run(spoil())
    status, out, err = run(capsys, "verify", "-ledger", where)
    assert status == 1
    assert "up to number 2" in err


def test_the_exit_status_is_2_for_bad_usage_and_1_for_a_missing_ledger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for argv, words in [
        ((), "sessions, payments, signings, orchestrators, totals, usage, luck, verify"),
        (("pay",), "'pay' is not a command"),
        (("totals", "-by", "year"), "day, orchestrator, stream"),
        (("sessions", "-live"), "not a flag"),
    ]:
        status, _, err = run(capsys, *argv)
        assert status == 2
        assert words in err
    status, _, err = run(capsys, "sessions", "-dataDir", str(tmp_path))
    assert status == 1
    assert "there is no ledger" in err
    status, out, _ = run(capsys, "-help")
    assert status == 0
    assert "totals" in out


def test_a_ledger_of_another_version_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ledger.sqlite3"
    filled(str(path))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0099'")
        connection.commit()
    status, _, err = run(capsys, "sessions", "-ledger", str(path))
    assert status == 1
    assert "schema version 0099" in err


@pytest.mark.asyncio
async def test_it_is_a_command_of_the_gateway_and_reads_beside_one_that_writes(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    ledger = await Ledger.open(path)
    await fill(ledger)
    await ledger.open_session(record("live"))
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "livepeer-gateway",
        *("ledger", "verify", "-ledger", str(path), "-format", "json"),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await within(process.communicate())
    await ledger.close()
    assert process.returncode == 0
    assert json.loads(out)[0]["open_sessions"] == 1


def test_luck_shows_expected_and_redeemed_wei(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(str(tmp_path / "ledger.sqlite3"))
    status, out, _ = run(capsys, "luck", "-dataDir", str(tmp_path), "-format", "json")
    assert status == 0
    rows = json.loads(out)
    assert rows
    assert all(row["wins"] == 0 and row["chance"] == 1.0 and row["verdict"] == "chance" for row in rows)
    assert all(int(row["expected_wei"]) > 0 for row in rows)
    status, out, _ = run(capsys, "luck", "-dataDir", str(tmp_path))
    assert "spread_wei" in out.splitlines()[0]
