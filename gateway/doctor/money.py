"""Findings on what pays: the signer, its funds on chain, the ledger and the limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

from gateway import money
from gateway.build import Build
from gateway.candidates.trust import Trust
from gateway.doctor.finding import Finding, Level
from gateway.flags import without_userinfo
from gateway.payments.database import Database
from gateway.payments.errors import LedgerError
from gateway.payments.ledger_reader import LedgerReader
from gateway.payments.settings import PaymentSettings
from gateway.payments.signer_types import FLOWS
from gateway.payments.spending import DAY, HOUR, Spending, SpendLimits
from gateway.payments.timebase import NANOSECONDS
from gateway.payments.trust_store import TrustStore
from signer_client import SignerClient, SignerError

NEARLY_SPENT = Fraction(4, 5)
"""Of a limit: from here on it is worth a warning."""


async def signer_findings(build: Build) -> AsyncIterator[Finding]:
    """Who signs, how fast it answers, and which flows it pays for."""
    url = without_userinfo(build.settings.network.signer_url or "")
    if build.signer is None or build.identity is None or build.payments is None:
        yield Finding("signer", Level.OK, "none: orchestrators that want to be paid are not used")
        return
    yield await _answers(build.signer, url, build.identity.address)
    await build.payments.types.ask(build.signer)
    refused = [why for one in FLOWS if (why := build.payments.types.refusal(one))]
    for why in refused:
        advice = "nothing to do where the other flow is enough; else use a signer that makes them"
        yield Finding("signer", Level.WARNING, why, advice, name="payment types")
    if not refused:
        yield Finding("signer", Level.OK, f"pays for {' and '.join(FLOWS.values())}", name="payment types")


async def _answers(signer: SignerClient, url: str, address: str) -> Finding:
    began = time.monotonic()
    try:
        await signer.ping()
    except SignerError as error:
        advice = "start it, or correct -remoteSignerUrl"
        return Finding("signer", Level.FAULT, f"{url} does not answer: {error}", advice)
    took = 1000 * (time.monotonic() - began)
    detail = f"{url} answers in {took:.0f} ms, and pays as {address}"
    return Finding("signer", Level.OK, detail, figures={"rtt_ms": round(took, 1), "address": address})


def no_signer(why: str) -> Finding:
    """The signer did not give its address."""
    return Finding("signer", Level.FAULT, why, "start it, or correct -remoteSignerUrl")


async def funds(build: Build) -> Finding | None:
    """Whether the deposit on chain backs tickets; None without -ethUrl."""
    if build.chain is None or build.identity is None:
        return None
    await build.chain.watch.update()
    seen = build.chain.watch.json()
    figures = {name: seen[name] for name in ("deposit_wei", "reserve_wei", "unlock_round")}
    if seen["error"]:
        advice = "check -ethUrl: it takes several endpoints, comma-separated"
        return Finding("funds", Level.WARNING, f"the chain cannot be read: {seen['error']}", advice)
    shown = ", ".join(
        f"{what} {money.decimal(Fraction(seen[name] or 0) / 10**18, 9)} ETH"
        for what, name in (("deposit", "deposit_wei"), ("reserve", "reserve_wei"))
    )
    advice = "fund the deposit and the reserve of the signer's address, or cancel the unlock"
    if seen["refusal"]:
        return Finding("funds", Level.FAULT, f"{seen['refusal']} ({shown})", advice, figures=figures)
    if seen["warning"]:
        return Finding("funds", Level.WARNING, f"{seen['warning']} ({shown})", advice, figures=figures)
    return Finding("funds", Level.OK, shown, figures=figures)


async def ledger_findings(where: str, payments: PaymentSettings) -> tuple[list[Finding], Trust]:
    """The ledger, what the limits leave, and what is known of orchestrators from before."""
    if "://" not in where and not await asyncio.to_thread(Path(where).exists):
        return [Finding("ledger", Level.OK, f"{where} will be made at the first start")], Trust()
    try:
        database = await Database.open_to_read(where)
    except LedgerError as error:
        advice = "check -ledger, and that its server runs and lets this machine in"
        return [Finding("ledger", Level.FAULT, str(error), advice)], Trust()
    try:
        store, spending = TrustStore(database), Spending(payments.spend_limits)
        trust = Trust(await store.records(), await store.paid_addresses())
        spending.restore(await LedgerReader(database).signed_since(time.time_ns() - DAY * 60 * NANOSECONDS))
    except LedgerError as error:
        return [Finding("ledger", Level.FAULT, str(error), "check the database")], Trust()
    finally:
        await database.close()
    read = Finding("ledger", Level.OK, f"{without_userinfo(where)} can be read")
    return [read, *_limits(spending, payments.spend_limits)], trust


def _limits(spending: Spending, limits: SpendLimits) -> list[Finding]:
    findings = []
    for words, flag, minutes, limit in (
        ("hour", "-maxSpendPerHour", HOUR, limits.hour),
        ("day", "-maxSpendPerDay", DAY, limits.day),
    ):
        if limit is None:
            continue
        spent = spending.spent(minutes)
        detail = f"{money.whole_wei(spent)} of {limit} wei were spent in the last {words}"
        figures = {"spent_wei": money.whole_wei(spent), "limit_wei": str(limit)}
        near = spent >= NEARLY_SPENT * limit
        advice = f"raise {flag}, or wait: what is over an {words} old counts no more" if near else ""
        level = Level.WARNING if near else Level.OK
        findings.append(Finding("limits", level, detail, advice, name=flag, figures=figures))
    return findings
