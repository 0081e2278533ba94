"""What limits a payer: slots for calls, spend limits, and what a signer may bill."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.aio import tasks
from gateway.payments.spending import HOUR, Spending, SpendLimits
from gateway.reason import Ended, EndReason
from harness.payment_models import PRICE
from harness.waiting import DEADLINE
from signer_client import (
    BadRequest,
    LivePayment,
    NoTicketsNeeded,
)
from tests.payments.payers import ScriptedSigner, bench


@pytest.mark.asyncio
async def test_a_call_waits_for_a_slot_and_close_does_not(tmp_path: Path) -> None:
    slots = asyncio.Semaphore(1)
    async with bench(tmp_path, slots=slots) as b:
        await b.start()
        await slots.acquire()  # somebody else's call is under way
        await b.run_until(lambda: b.payer.status().next_due_in is None)
        assert len(b.signer.calls) == 1
        async with asyncio.timeout(DEADLINE):
            await b.payer.close(EndReason.DELETED)
        slots.release()
        assert not slots.locked()
        assert len(b.signer.calls) == 1
        assert (await b.steps())[-1] == "closed"


@pytest.mark.asyncio
async def test_slots_are_shared_evenly_and_limit_the_calls_at_once(tmp_path: Path) -> None:
    slots, enough = asyncio.Semaphore(2), asyncio.Event()
    order: list[int] = []
    under_way = most = 0
    async with AsyncExitStack() as stack:
        benches = []
        for number in range(6):
            folder = tmp_path / str(number)
            folder.mkdir()
            signer = ScriptedSigner(60, *[NoTicketsNeeded(482, "")] * 99)
            benches.append(await stack.enter_async_context(bench(folder, signer, slots=slots)))
            await benches[-1].start()

        def watched(number: int, answer: Callable[..., Awaitable[LivePayment]]) -> Any:
            async def call(**asked: Any) -> LivePayment:
                nonlocal under_way, most
                under_way += 1
                most = max(most, under_way)
                order.append(number)
                if len(order) == 60:
                    enough.set()
                try:
                    await asyncio.sleep(0.01)
                    return await answer(**asked)
                finally:
                    under_way -= 1

            return call

        for number, one in enumerate(benches):
            one.signer.generate_live_payment = watched(number, one.signer.generate_live_payment)  # type: ignore[method-assign]
        running = [tasks.spawn(one.payer.run(), name="test payments") for one in benches]
        async with asyncio.timeout(DEADLINE):
            await enough.wait()
        await tasks.cancel(*running)
    assert most == 2
    served = [order[:60].count(number) for number in range(6)]
    assert max(served) - min(served) <= 2, served


@pytest.mark.asyncio
async def test_a_call_that_may_exceed_the_streams_limit_is_not_made(tmp_path: Path) -> None:
    spending = Spending(SpendLimits())
    async with bench(tmp_path, spending=spending, limit=63 * PRICE) as b:
        await b.start()
        with pytest.raises(Ended, match="limit of this stream") as ended:
            await b.run_until(lambda: False)
        assert ended.value.reason is EndReason.SPEND_LIMIT
        signed = 60 * PRICE + (len(b.signer.calls) - 1) * PRICE
        assert 60 * PRICE < signed <= 63 * PRICE
        assert spending.spent(HOUR) == signed
        assert b.payer.status().credited == signed


@pytest.mark.asyncio
async def test_a_first_payment_over_the_hours_limit_is_not_asked_for(tmp_path: Path) -> None:
    async with bench(tmp_path, spending=Spending(SpendLimits(hour=60 * PRICE - 1))) as b:
        with pytest.raises(Ended, match="last hour") as ended:
            await b.payer.first_payment()
        assert ended.value.reason is EndReason.SPEND_LIMIT
        assert b.signer.calls == []


@pytest.mark.asyncio
async def test_a_failed_call_releases_what_it_held(tmp_path: Path) -> None:
    spending = Spending(SpendLimits())
    async with bench(tmp_path, ScriptedSigner(BadRequest(400, "deposit")), spending=spending) as b:
        with pytest.raises(Ended):
            await b.payer.first_payment()
        assert spending.spent(HOUR) == 0


@pytest.mark.asyncio
async def test_a_signer_that_bills_a_step_of_its_clock_is_one_alarm_and_is_paid(tmp_path: Path) -> None:
    async with bench(tmp_path, ScriptedSigner(20, 10, 1)) as b:
        await b.start()
        await b.run_until(lambda: b.payer.status().accepted == 3)
        assert b.payer.status().credited == 31 * PRICE
        assert b.payer.status().alarms == 1


@pytest.mark.asyncio
async def test_a_payment_above_its_maximum_and_the_limit_is_not_delivered(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, ScriptedSigner(60, 4), limit=63 * PRICE) as b:
        await b.start()
        with pytest.raises(Ended) as ended:
            await b.run_until(lambda: False)
        assert ended.value.reason is EndReason.SPEND_LIMIT
        assert (await b.steps())[4:] == ["intended", "signed", "withheld"]


@pytest.mark.asyncio
async def test_a_signer_that_bills_more_than_the_preload_is_refused_with_an_alarm(tmp_path: Path) -> None:
    async with bench(tmp_path, ScriptedSigner(61)) as b:
        with pytest.raises(Ended, match="at most") as ended:
            await b.payer.first_payment()
        assert ended.value.reason is EndReason.PAYMENT_REFUSED
        assert b.payer.status().alarms == 1
        assert await b.steps() == ["intended", "signed", "withheld"]
