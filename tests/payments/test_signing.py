"""A node of a cluster that pays: within the limits of all nodes, and only for sessions that are its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.payments.ledger import Ledger
from gateway.payments.saved_jobs import JobDetails
from gateway.payments.session_key import SessionKey
from gateway.payments.shared_limits import HoldRequest
from gateway.payments.signing import MAX_ASKED_BEFORE
from gateway.payments.spending import PublisherBudget, Spending, SpendLimits
from gateway.payments.timebase import now_ns
from gateway.reason import Ended, EndReason
from harness.payment_models import PRICE
from harness.postgresql import PostgresqlServer
from signer_client import SignerUnavailable
from tests.payments.ledgers import record
from tests.payments.payers import ScriptedSigner, bench

pytestmark = pytest.mark.asyncio
PRELOAD = 60 * PRICE
OWN = PublisherBudget("token 1", 2 * PRELOAD, None, 1)


@pytest_asyncio.fixture
async def nodes(postgresql: PostgresqlServer) -> AsyncIterator[list[Ledger]]:
    where = postgresql.database()
    opened = [await Ledger.open(where, node=name) for name in ("one", "other")]
    yield opened
    for ledger in opened:
        await ledger.close()


def request(wei: int, budget: PublisherBudget = OWN) -> HoldRequest:
    return HoldRequest(Fraction(wei), "r2", budget, SpendLimits())


async def hold(ledger: Ledger, wei: int, budget: PublisherBudget = OWN) -> None:
    """Another node holds so much for the same publisher."""
    session = await ledger.open_session(replace(record("other"), publisher="token 1"))
    await ledger.intended(session, 2, request(wei, budget))


async def test_the_signer_is_not_asked_for_a_session_that_another_node_took_over(
    tmp_path: Path, nodes: list[Ledger]
) -> None:
    one, other = nodes
    taken: list[SessionKey] = []
    async with bench(tmp_path, details=JobDetails({}), node=one) as b:
        await b.start()
        b.signer.script.append(1)
        asked = len(b.signer.calls)
        (left,) = await other.left_jobs("cam")
        taken.append((await other.take_over(left.session_id)).session_id)
        with pytest.raises(Ended, match="another run or node") as ended:
            await b.run_until(lambda: False)
        assert ended.value.reason is EndReason.TAKEN_OVER
        assert len(b.signer.calls) == asked
    (session,) = [one async for one in other.reader.sessions()]
    assert session.closed is None, "whose it was does not close it either"
    await other.close_session(taken[0], EndReason.DELETED)


async def test_a_payment_that_fits_here_and_not_over_all_nodes_is_not_asked_for(
    tmp_path: Path, nodes: list[Ledger]
) -> None:
    one, other = nodes
    await hold(other, PRELOAD + 1)
    async with bench(tmp_path, node=one, budget=OWN) as b:
        with pytest.raises(Ended) as ended:
            await b.payer.first_payment()
        assert ended.value.reason is EndReason.SPEND_LIMIT
        assert b.signer.calls == []


async def test_a_payment_that_fits_to_the_wei_is_made_and_its_value_counts(
    tmp_path: Path, nodes: list[Ledger]
) -> None:
    one, other = nodes
    await hold(other, PRELOAD)
    async with bench(tmp_path, node=one, budget=OWN, interval=3_600 * 10**9) as b:
        await b.start()
        with pytest.raises(Exception, match="limit of this publisher"):
            await hold(other, 1)
    signed = sum((wei for _, wei, _ in await other.reader.signed_since(0)), Fraction(0))
    assert signed == PRELOAD


async def test_a_call_that_gave_nothing_gives_its_hold_back(tmp_path: Path, nodes: list[Ledger]) -> None:
    one, other = nodes
    signer = ScriptedSigner(SignerUnavailable(503, "busy"), 60)
    async with bench(tmp_path, signer, node=one, budget=OWN, interval=3_600 * 10**9) as b:
        answer = signer.generate_live_payment

        async def busy(**call: Any) -> Any:
            try:
                return await answer(**call)
            finally:
                if len(signer.calls) == 1:  # what is held meanwhile is held for this one
                    with pytest.raises(Exception, match="limit of this publisher"):
                        await hold(other, PRELOAD + 1)

        signer.generate_live_payment = busy  # type: ignore[method-assign]
        await b.start()
        await hold(other, PRELOAD)


async def test_a_start_that_is_one_too_many_over_all_nodes_is_not_paid(
    tmp_path: Path, nodes: list[Ledger]
) -> None:
    one, other = nodes
    session = await other.open_session(replace(record("other"), publisher="token 1"))
    await other.intended(session, 1, request(1))
    async with bench(tmp_path, node=one, budget=OWN) as b:
        with pytest.raises(Ended, match="1 paid streams were started within a minute"):
            await b.payer.first_payment()
        assert b.signer.calls == []


async def test_a_node_that_stood_still_asks_the_ledger_again_before_it_asks_the_signer(
    tmp_path: Path, nodes: list[Ledger]
) -> None:
    """Its question is an old one, and another node has taken the session over since."""
    one, other = nodes
    later = 0
    async with bench(tmp_path, details=JobDetails({}), node=one, clock=lambda: now_ns() + later) as b:
        await b.start()
        asked, write = len(b.signer.calls), one.intended

        async def stopped(*line: Any) -> None:
            nonlocal later
            await write(*line)
            if not later:
                later = MAX_ASKED_BEFORE
                (left,) = await other.left_jobs("cam")
                await other.take_over(left.session_id)

        one.intended = stopped  # type: ignore[method-assign]
        with pytest.raises(Ended, match="another run or node"):
            await b.run_until(lambda: False)
        assert later
        assert len(b.signer.calls) == asked


async def test_an_account_is_exact_where_nodes_pay_within_limits(tmp_path: Path, nodes: list[Ledger]) -> None:
    limit = PRELOAD + 3 * PRICE
    spending = Spending(SpendLimits(hour=limit))
    async with bench(tmp_path, node=nodes[0], spending=spending) as b:
        await b.start()
        with pytest.raises(Ended) as ended:
            await b.run_until(lambda: False)
        assert ended.value.reason is EndReason.SPEND_LIMIT
    signed = sum((wei for _, wei, _ in await nodes[1].reader.signed_since(0)), Fraction(0))
    assert PRELOAD < signed <= limit
