"""Calls that are made again until they are answered."""

from __future__ import annotations

import pytest

from gateway.aio.left_calls import KEEP_FOR, MAX_CALLS, LeftCalls
from harness.waiting import eventually


@pytest.mark.asyncio
async def test_each_is_made_until_it_is_answered_or_its_client_is_closed() -> None:
    made: list[str] = []

    async def at_the_third_time() -> bool:
        made.append("third")
        return made.count("third") == 3

    async def closed() -> bool:
        made.append("closed")
        raise RuntimeError("Session is closed")

    left = LeftCalls("test-left", retry_every=0.001)
    for _ in range(2):
        made.clear()
        left.add("third", at_the_third_time)
        left.add("closed", closed)
        await eventually(lambda: not len(left), what="the end of both")
        assert sorted(made) == ["closed", "third", "third", "third"]
    await left.close()


@pytest.mark.asyncio
async def test_they_are_given_up_in_the_end_and_not_without_number() -> None:
    now = 0.0

    async def never() -> bool:
        return False

    left = LeftCalls("test-left", retry_every=0.001, clock=lambda: now)
    for number in range(MAX_CALLS + 1):
        left.add(str(number), never)
    assert len(left) == MAX_CALLS
    now = KEEP_FOR + 1
    await eventually(lambda: not len(left), what="the end of all")
    await left.close()
