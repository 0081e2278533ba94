"""Nothing is waited for without end."""

from __future__ import annotations

import asyncio

import pytest

from harness.waiting import eventually, within


async def forever() -> bool:
    return await asyncio.get_running_loop().create_future()


@pytest.mark.asyncio
async def test_what_takes_too_long_fails_with_what_was_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"^waited 0\.02 s for the answer$"):
        await within(forever(), deadline=0.02, what="the answer")


@pytest.mark.asyncio
async def test_a_condition_that_never_answers_fails_too() -> None:
    with pytest.raises(AssertionError, match=r"^waited 0\.02 s for the answer$"):
        await eventually(forever, deadline=0.02, what="the answer")


@pytest.mark.asyncio
async def test_another_ones_timeout_is_passed_on() -> None:
    async def late() -> None:
        raise TimeoutError("the server's")

    with pytest.raises(TimeoutError, match="the server's"):
        await within(late())
