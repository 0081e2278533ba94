"""How long a session may go without a first picture."""

from __future__ import annotations

import asyncio

import pytest

from gateway.reason import Ended, EndReason
from gateway.runner.first_picture import FirstPicture


@pytest.mark.parametrize(
    ("profile", "proven", "limit"), [(120, True, 120), (120, False, 60), (30, True, 30), (30, False, 30)]
)
def test_who_has_not_delivered_is_paid_for_a_minute_at_most(
    profile: float, proven: bool, limit: float
) -> None:
    assert FirstPicture(profile, proven=proven).limit == limit


@pytest.mark.asyncio
async def test_without_a_picture_in_time_it_is_the_orchestrators_fault() -> None:
    picture = FirstPicture(60, proven=False, max_unproven=0.02)
    with pytest.raises(Ended, match="showed no picture") as ended:
        await picture.watch("https://orch.example")
    assert type(ended.value) is Ended
    assert ended.value.reason is EndReason.ORCHESTRATOR_LOST


@pytest.mark.asyncio
async def test_a_picture_ends_the_watch() -> None:
    picture = FirstPicture(60, proven=True)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(picture.watch("https://orch.example"))
        picture.came()
