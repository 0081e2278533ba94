"""Room for jobs: who is full, who has room again, and when the pool asks."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gateway.orchestrator.client import INFO_TIMEOUT
from gateway.orchestrator.errors import NoCapacity, OfferChanged, Unreachable
from gateway.orchestrator.pool import ROOM_AGE, ROOM_TIMEOUT
from tests.orchestrator.pools import Clock, InfoMaker, Orchestrators, pool_of, running, until, verdicts


@pytest.mark.asyncio
async def test_no_capacity_is_a_short_suspension_that_is_not_ignored(orchestrator_info: InfoMaker) -> None:
    client, clock = Orchestrators(orchestrator_info, a=1), Clock()
    async with running(pool_of(client, clock=clock)) as pool:
        await pool.wait_ready()
        pool.no_room("a:1", "HTTP 503")
        assert verdicts(pool) == {"a:1": "no_capacity"}
        assert not pool.ready()
        clock.now += 15
        assert pool.ready()


@pytest.mark.asyncio
async def test_room_that_a_job_gives_back_is_found_at_once(orchestrator_info: InfoMaker) -> None:
    client, clock = Orchestrators(orchestrator_info, a=1), Clock()
    async with running(pool_of(client, clock=clock)) as pool:
        await pool.wait_ready()
        client.failing["a:1"] = NoCapacity("full")
        await pool.take("a:1", Fraction(1))
        await until(lambda: not pool.ready(), pool)
        pool.no_room("a:1", "HTTP 503")
        del client.failing["a:1"]
        pool.job_over("a:1", object(), ran=True)
        await until(pool.ready, pool)
        pool.job_over("ignore-of:1", object(), ran=True)


@pytest.mark.asyncio
async def test_our_own_starts_are_taken_off_the_room_until_an_answer_counts_them(
    orchestrator_info: InfoMaker,
) -> None:
    client, clock = Orchestrators(orchestrator_info, a=1), Clock()
    client.room = 2
    async with running(pool_of(client, clock=clock)) as pool:
        await pool.wait_ready()
        first, second = object(), object()
        pool.job_opened("a:1", "", first).picture()
        assert pool.ready()
        pool.job_opened("a:1", "", second).picture()
        assert verdicts(pool) == {"a:1": "no_capacity"}
        assert [one.starts_under_way for one in pool.candidates()] == [True]
        pool.job_over("a:1", second, ran=False)
        assert pool.ready(), "it did not start"
        clock.now += 1
        pool.job_began("a:1", first)
        client.room = 1
        clock.now += 1
        await until(lambda: len(client.asked) == 2, pool)
        assert pool.ready()
        pool.job_opened("a:1", "", second).picture()
        assert verdicts(pool) == {"a:1": "no_capacity"}


@pytest.mark.asyncio
async def test_room_is_asked_for_where_the_answer_is_not_of_this_moment(orchestrator_info: InfoMaker) -> None:
    client, clock = Orchestrators(orchestrator_info, a=1, b=2), Clock()
    async with running(pool_of(client, clock=clock)) as pool:
        await until(lambda: len([c for c in pool.candidates() if c.usable]) == 2, pool)
        asked = len(client.asked)
        pool.ask_again("a:1")
        await pool.take("a:1", Fraction(1))
        assert len(client.asked) == asked, "it has answered just now"
        clock.now += ROOM_AGE + 0.1
        client.failing["b:1"] = NoCapacity("full")
        with pytest.raises(NoCapacity):
            await pool.take("b:1", Fraction(2))
        client.failing["b:1"] = Unreachable("no answer within 0.5 s")
        await pool.take("a:1", Fraction(1))
        assert client.timeouts[-1] == INFO_TIMEOUT, "there is nobody else to turn to"
        client.failing.clear()
        await until(lambda: verdicts(pool)["b:1"] == "available", pool)
        clock.now += ROOM_AGE + 0.1
        client.failing["a:1"] = Unreachable("no answer within 0.5 s")
        with pytest.raises(OfferChanged, match="another orchestrator"):
            await pool.take("a:1", Fraction(1))
        assert ROOM_TIMEOUT in client.timeouts
        assert verdicts(pool) == {"b:1": "chosen", "a:1": "unreachable"}


@pytest.mark.asyncio
async def test_one_that_a_job_fills_is_known_to_be_full(orchestrator_info: InfoMaker) -> None:
    client = Orchestrators(orchestrator_info, a=1)
    async with running(pool_of(client)) as pool:
        await pool.wait_ready()
        await pool.take("a:1", Fraction(1))
        await until(lambda: len(client.asked) == 2, pool)
        assert pool.ready(), "the job has not begun"
        client.failing["a:1"] = NoCapacity("full")
        pool.job_began("a:1", object())
        await until(lambda: verdicts(pool) == {"a:1": "no_capacity"}, pool)
