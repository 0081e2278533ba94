"""The check of a first payment, and the spending from before a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import pytest_asyncio

from gateway.payments.billing import first_payment
from gateway.payments.errors import LedgerUnavailable
from gateway.payments.ledger import Ledger
from gateway.payments.resources import PaymentResources
from gateway.payments.settings import PaymentSettings
from gateway.payments.spending import HOUR, PublisherBudget, SpendLimitReached, SpendLimits, StreamLimits
from harness.payment_models import PRICE, SENDER_TEXT
from signer_client import SignerClient, SignerIdentity
from tests.payments.ledgers import fill, pay, payment, record


async def opened(ledger: Ledger, limits: SpendLimits) -> PaymentResources:
    settings = PaymentSettings(Fraction(PRICE), limits, StreamLimits(), interval=10**9, signing_calls=3)
    signer = cast(SignerClient, object())
    return await PaymentResources.open(settings, ledger, signer, SignerIdentity(SENDER_TEXT, b""))


@pytest_asyncio.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    opened = await Ledger.open(tmp_path / "ledger.sqlite3")
    yield opened
    await opened.close()


@pytest.mark.asyncio
async def test_a_first_payment_is_checked_against_each_limit_in_whole_tickets(ledger: Ledger) -> None:
    resources = await opened(ledger, SpendLimits(hour=62 * PRICE))
    whole_tickets = first_payment(Fraction(PRICE), Fraction(7 * PRICE))
    assert whole_tickets == 63 * PRICE
    resources.check_affordable(Fraction(62 * PRICE))
    with pytest.raises(SpendLimitReached, match="last hour"):
        resources.check_affordable(whole_tickets)
    with pytest.raises(SpendLimitReached, match="this stream"):
        resources.check_affordable(Fraction(60 * PRICE), limit=60 * PRICE - 1)


@pytest.mark.asyncio
async def test_payments_before_a_restart_count_if_they_were_sent(
    ledger: Ledger,
) -> None:
    await fill(ledger)
    withheld = await ledger.open_session(record("three"))
    await pay(ledger, withheld, 1, payment(5, 1, 60), "withheld")
    resources = await opened(ledger, SpendLimits(hour=260 * PRICE))
    assert (
        resources.spending.spent(HOUR) == 182 * PRICE
    )  # credited, uncertain, unspent, refused by its orchestrator
    with pytest.raises(SpendLimitReached, match="last hour"):
        resources.check_affordable(Fraction(79 * PRICE))


@pytest.mark.asyncio
async def test_a_publishers_budget_outlasts_a_restart(ledger: Ledger) -> None:
    session = await ledger.open_session(replace(record("one"), publisher="token 1"))
    await pay(ledger, session, 1, payment(1, 1, 60), "delivered", "credited")
    resources = await opened(ledger, SpendLimits())
    resources.check_affordable(Fraction(PRICE), budget=PublisherBudget("token 1", hour=61 * PRICE, day=None))
    resources.check_affordable(Fraction(PRICE), budget=PublisherBudget("token 2", hour=PRICE, day=None))
    with pytest.raises(SpendLimitReached, match="this publisher's last hour"):
        resources.check_affordable(
            Fraction(2 * PRICE), budget=PublisherBudget("token 1", hour=61 * PRICE, day=None)
        )


@pytest.mark.asyncio
async def test_no_first_payment_is_allowed_while_the_ledger_cannot_be_written(ledger: Ledger) -> None:
    full = SimpleNamespace(reader=ledger.reader, trouble="disk full")
    resources = await opened(cast(Ledger, full), SpendLimits())
    with pytest.raises(LedgerUnavailable, match="disk full"):
        resources.check_affordable(Fraction(1))


@pytest.mark.asyncio
async def test_there_are_as_many_slots_as_the_operator_allows(ledger: Ledger) -> None:
    resources = await opened(ledger, SpendLimits())
    for _ in range(3):
        await resources.signing_slots.acquire()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await resources.signing_slots.acquire()
