"""How long a session may go without a first picture."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from typing import Any, cast

import pytest

from gateway.reason import Ended, EndReason
from gateway.runner.first_picture import FirstPicture
from harness.waiting import eventually


class Payments:
    """What is told to who pays."""

    def __init__(self, seconds_after_next: int = 14) -> None:
        self.told: list[str] = []
        self.seconds_after_next = seconds_after_next

    def pause(self, *, owed: bool) -> None:
        self.told.append("pause" if owed else "nothing is owed")

    def resume(self) -> None:
        self.told.append("resume")


def picture(
    limit: float,
    *,
    proven: bool = False,
    payments: Payments | None = None,
    before: int = 0,
    max_unproven: float = 60,
) -> FirstPicture:
    payer = cast(Any, payments)
    return FirstPicture(limit, proven=proven, payer=payer, before=Fraction(before), max_unproven=max_unproven)


@pytest.mark.parametrize(
    ("profile", "proven", "limit"), [(120, True, 120), (120, False, 60), (30, True, 30), (30, False, 30)]
)
def test_who_has_not_delivered_is_paid_for_a_minute_at_most(
    profile: float, proven: bool, limit: float
) -> None:
    assert picture(profile, proven=proven).limit == limit


@pytest.mark.asyncio
async def test_without_a_picture_in_time_it_is_the_orchestrators_fault() -> None:
    first = picture(60, max_unproven=0.02)
    with pytest.raises(Ended, match="showed no picture") as ended:
        await first.watch("https://orch.example", lambda: False)
    assert type(ended.value) is Ended
    assert ended.value.reason is EndReason.ORCHESTRATOR_LOST


@pytest.mark.asyncio
async def test_a_picture_ends_the_watch() -> None:
    first = picture(60, proven=True)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(first.watch("https://orch.example", lambda: False))
        first.came()


@pytest.mark.asyncio
@pytest.mark.parametrize("held", [False, True])
async def test_who_has_not_delivered_gets_no_more_pay_than_for_a_minute_until_a_picture(held: bool) -> None:
    payments = Payments(seconds_after_next=61)
    first = picture(120, payments=payments)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(first.watch("https://orch.example", lambda: held))
        await eventually(lambda: payments.told == ["pause"], what="the payment that is one too many")
        first.job_resumed()
        assert payments.told == ["pause"] * 2, "a publisher that comes back changes nothing"
        first.came()
    assert payments.told == ["pause"] * 2 + ["resume"] * (not held)
    first.job_resumed()
    assert payments.told.count("pause") == 2


@pytest.mark.asyncio
async def test_what_a_former_run_has_paid_is_not_counted() -> None:
    payments = Payments(seconds_after_next=660)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        first = picture(120, payments=payments, before=600)
        group.create_task(first.watch("https://orch.example", lambda: False))
        await asyncio.sleep(0)
        first.came()
    assert payments.told == []


@pytest.mark.asyncio
@pytest.mark.parametrize("proven", [False, True])
async def test_who_shows_one_within_the_minute_or_did_before_is_paid_all_the_while(
    proven: bool,
) -> None:
    payments = Payments(seconds_after_next=999 if proven else 60)
    first = picture(120, payments=payments, proven=proven)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(first.watch("https://orch.example", lambda: False))
        await asyncio.sleep(0)
        first.came()
    assert payments.told == []
