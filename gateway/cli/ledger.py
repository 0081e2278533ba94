"""`livepeer-gateway ledger`: sessions, payments and sums from the ledger, and a check of it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from gateway.chain.luck import luck_of
from gateway.cli.render import Format, render
from gateway.flag_text import help_text
from gateway.flags import (
    BOOLEAN,
    PATH,
    POSITIVE_NUMBER,
    TEXT,
    Flag,
    FlagError,
    HelpRequested,
    Kind,
    Parsed,
    choice,
    parse_flags,
)
from gateway.payments.database import Database
from gateway.payments.errors import LedgerError
from gateway.payments.ledger_reader import LedgerReader
from gateway.payments.ledger_rows import Grouping
from gateway.payments.redemptions import RedemptionBook
from gateway.payments.report import (
    payment_row,
    session_row,
    signer_call_row,
    total_row,
    verification_row,
)
from gateway.payments.trust_store import TrustStore
from gateway.payments.usage import Every, Period, UsedBy
from gateway.payments.verify import verify

PROGRAM = "livepeer-gateway ledger"
B = TypeVar("B", Grouping, UsedBy)
COMMANDS = {
    "sessions": "one line per session: one job on one orchestrator",
    "payments": "one line per payment",
    "signings": "one line per call to the signer that may be billed, those without a payment too",
    "orchestrators": "one line per paid address: what it was paid, and what it delivered",
    "totals": "sums by day, orchestrator, stream or publisher",
    "usage": "who used how much: by customer, token, publisher, app, orchestrator or stream",
    "luck": "expected and redeemed wei by day and orchestrator, of a gateway with -ethUrl",
    "verify": "checks that all sessions are consistent; exit status 1 where one is not",
}
USAGE = f"usage: livepeer-gateway ledger {'|'.join(COMMANDS)} [flags]\n\n" + "\n".join(
    f"  {name:13} {words}" for name, words in COMMANDS.items()
)

BY = tuple(dict.fromkeys([*Grouping, *UsedBy]))
DATE = Kind("date", "a day such as 2026-01-31", date.fromisoformat)

FLAGS = (
    Flag(
        "ledger",
        TEXT,
        None,
        "Read this ledger: a path or postgresql://..",
        "ledger.sqlite3 in the data directory",
    ),
    Flag("dataDir", PATH, None, "Use this data directory of the gateway", "a per-user data directory"),
    Flag("stream", TEXT, None, "Show only this stream, by name or id (not totals, luck)"),
    Flag("by", choice(*BY), None, "Group totals or usage by this", "day; of usage customer"),
    Flag("from", DATE, None, "Show usage from this UTC day on", "the first"),
    Flag("to", DATE, None, "Show usage up to this UTC day, itself included", "today"),
    Flag("every", choice(*Every), "day", "Show usage by day, by month, or all together"),
    Flag("markup", POSITIVE_NUMBER, "1", "Charge this many times what was spent"),
    Flag("format", choice(*Format), "table", "Print in this format"),
    Flag("json", BOOLEAN, "false", "Print JSON: short for -format json"),
    Flag("csv", BOOLEAN, "false", "Print CSV: short for -format csv"),
)

SESSION_COLUMNS = (
    "opened_at", "closed_at", "stream_id", "orchestrator", "price_wei_per_second", "payments", "tickets",
    "credited_wei", "handed_out_wei", "uncertain_wei", "refused_wei", "unspent_wei", "owed_wei", "reason",
    "session",
)  # fmt: skip
PAYMENT_COLUMNS = (
    "signed_at", "stream_id", "number", "outcome", "tickets", "ticket_wei", "wei", "price_wei_per_second",
    "first_nonce", "last_nonce", "manifest_id", "session",
)  # fmt: skip
SIGNING_COLUMNS = (
    "at", "stream_id", "number", "call", "tickets", "fee_wei", "max_fee_wei", "orchestrator", "session",
    "detail",
)  # fmt: skip
ORCHESTRATOR_COLUMNS = (
    "address", "paid_wei", "delivered_s", "starts", "empty_starts", "proven", "starts_at_once", "faults",
    "suspended_s", "reason", "paid_at",
)  # fmt: skip
TOTAL_COLUMNS = (
    "key", "sessions", "payments", "tickets", "credited_wei", "handed_out_wei", "uncertain_wei",
    "refused_wei", "unspent_wei",
)  # fmt: skip
USAGE_COLUMNS = (
    "period", "key", "streams", "sessions", "seconds", "payments", "spent_wei", "charged_wei",
)  # fmt: skip
LUCK_COLUMNS = (
    "day", "orchestrator", "tickets", "expected_wins", "wins", "expected_wei", "spread_wei", "redeemed_wei",
    "chance", "verdict", "unknown_wins", "unknown_wei",
)  # fmt: skip
VERIFY_COLUMNS = (
    "sessions", "open_sessions", "payments", "credited_wei", "handed_out_wei", "uncertain_wei", "refused_wei",
    "unspent_wei", "findings",
)  # fmt: skip


def main(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Run one command. Returns the exit status of the process."""
    try:
        command, parsed = _read(argv, environ)
        return asyncio.run(_run(command, parsed))
    except HelpRequested:
        print(help_text(FLAGS, usage=USAGE))  # noqa: T201
        return 0
    except FlagError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except LedgerError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader, such as head, has ended
        return 0


def _read(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[str, Parsed]:
    command, *rest = argv or [""]
    if command.lstrip("-") in ("h", "help"):
        raise HelpRequested
    if command not in COMMANDS:
        raise FlagError(f"{command!r} is not a command: use one of {', '.join(COMMANDS)}")
    return command, parse_flags(FLAGS, rest, environ, program=PROGRAM)


async def _run(command: str, parsed: Parsed) -> int:
    data_dir = parsed["dataDir"] or Path(platformdirs.user_data_dir("livepeer-gateway"))
    database = await Database.open_to_read(parsed["ledger"] or data_dir / "ledger.sqlite3")
    try:
        reader, stream = LedgerReader(database), parsed["stream"]
        match command:
            case "sessions":
                rows = (session_row(session) async for session in reader.sessions(stream=stream))
                await _print(rows, SESSION_COLUMNS, parsed)
            case "payments":
                rows = (
                    payment_row(session, payment)
                    async for session in reader.sessions(stream=stream, payments=True)
                    async for payment in reader.payments_of(session)
                )
                await _print(rows, PAYMENT_COLUMNS, parsed)
            case "signings":
                rows = (signer_call_row(call) async for call in reader.signer_calls(stream=stream))
                await _print(rows, SIGNING_COLUMNS, parsed)
            case "orchestrators":
                known = await _orchestrators(TrustStore(database))
                await _print(_each(known), ORCHESTRATOR_COLUMNS, parsed)
            case "totals":
                totals = await reader.totals(_by(parsed, Grouping.DAY))
                await _print(_each(total_row(total) for total in totals), TOTAL_COLUMNS, parsed)
            case "usage":
                period = Period(parsed["from"], parsed["to"])
                by = _by(parsed, UsedBy.CUSTOMER)
                used = await reader.usage(by, Every(parsed["every"]), period)
                await _print(_each(one.row(parsed["markup"]) for one in used), USAGE_COLUMNS, parsed)
            case "luck":
                book = RedemptionBook(database)
                found = luck_of(await book.handed_out(), await book.wins())
                await _print(_each(luck.row() for luck in found), LUCK_COLUMNS, parsed)
            case "verify":
                return await _verify(reader, parsed)
        return 0
    finally:
        await database.close()


async def _orchestrators(store: TrustStore) -> list[dict[str, Any]]:
    places, now = await store.paid_addresses(), time.monotonic()
    rows = []
    for record in await store.records():
        fault = record.suspension.last_fault
        rows.append(
            {
                "address": record.key,
                **record.json(),
                "faults": 0 if fault is None else fault.faults,
                "suspended_s": 0 if fault is None else round(fault.seconds_left(now)),
                "reason": "" if fault is None else fault.reason,
                "paid_at": " ".join(place for place, address in places.items() if address == record.key),
            }
        )
    return rows


def _by(parsed: Parsed, default: B) -> B:
    """What to group by. Raises FlagError for what this command cannot."""
    given, known = parsed["by"], type(default)
    if given is None:
        return default
    if given not in set(known):
        raise FlagError(f"-by {given!r} is refused: it takes one of {', '.join(known)}")
    return known(given)


async def _verify(reader: LedgerReader, parsed: Parsed) -> int:
    verification = await verify(reader, stream=parsed["stream"])
    await _print(_each([verification_row(verification)]), VERIFY_COLUMNS, parsed)
    for session_id, finding in verification.findings:
        print(f"session {session_id}: {finding}", file=sys.stderr)  # noqa: T201
    return 1 if verification.findings else 0


async def _each(rows: Iterable[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for row in rows:
        yield row


async def _print(rows: AsyncIterable[dict[str, Any]], columns: Sequence[str], parsed: Parsed) -> None:
    form = Format.JSON if parsed["json"] else Format.CSV if parsed["csv"] else Format(parsed["format"])
    async for piece in render(rows, columns, form):
        sys.stdout.write(piece)
    sys.stdout.flush()
