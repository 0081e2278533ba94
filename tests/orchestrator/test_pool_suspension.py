"""Orchestrators with faults: suspended, trusted less, forgiven where nobody else is left."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gateway.candidates.trust import Record, Trust
from gateway.candidates.verdict import Verdict
from gateway.orchestrator.pool import OrchestratorPool
from tests.orchestrator.pools import (
    Clock,
    InfoMaker,
    Orchestrators,
    paid_as,
    pool_of,
    running,
    strangers,
    until,
    verdicts,
)


@pytest.mark.asyncio
async def test_a_fault_is_suspends_for_a_while_and_is_ignored_when_nobody_else_is_left(
    orchestrator_info: InfoMaker,
) -> None:
    client, clock = strangers(orchestrator_info, a=1, b=2), Clock()
    async with running(pool_of(client, clock=clock)) as pool:
        await until(lambda: len([c for c in pool.candidates() if c.usable]) == 2, pool)
        pool.suspend("a:1", "channels closed", address=paid_as("a:1"))
        assert verdicts(pool) == {"b:1": "chosen", "a:1": "unreachable"}, "it has to answer again first"
        await until(lambda: verdicts(pool) == {"b:1": "chosen", "a:1": "set_aside"}, pool)
        assert pool.candidates()[1].detail == "channels closed; suspended for another 30 s"
        told = pool.state()["orchestrators"][1]
        assert told["set_aside"] == {"reason": "channels closed", "seconds_left": 30.0}
        pool.suspend("b:1", "events silent", address=paid_as("b:1"))
        assert verdicts(pool) == {"a:1": "chosen", "b:1": "unreachable"}, "nobody else is left"
        await until(lambda: verdicts(pool) == {"a:1": "chosen", "b:1": "available"}, pool)
        assert "suspension ignored" in pool.candidates()[0].detail
        clock.now += 30
        assert pool.candidates()[0].detail == ""
        pool.suspend("a:1", "again", address=paid_as("a:1"))
        assert pool.state()["orchestrators"][1]["set_aside"]["seconds_left"] == 60.0


@pytest.mark.asyncio
async def test_a_fault_follows_the_paid_address_and_who_took_pay_is_not_forgiven(
    orchestrator_info: InfoMaker,
) -> None:
    client, clock = strangers(orchestrator_info, a=1), Clock()
    trust = Trust(clock=clock)
    trust.fault(paid_as("a:1"), "no picture", took_pay=True)
    pool = OrchestratorPool(
        client, tuple(client.prices), model="comfystream", ceiling=Fraction(9), trust=trust, clock=clock
    )
    async with running(pool):
        await until(lambda: verdicts(pool) == {"a:1": "set_aside"}, pool)
        assert not pool.ready(), "nobody else is left, and yet it gets no further preload"
        clock.now += 30
        assert pool.ready()


@pytest.mark.asyncio
async def test_where_all_stop_at_once_one_start_at_a_time_tries_them_and_others_go_first(
    orchestrator_info: InfoMaker,
) -> None:
    client, clock = strangers(orchestrator_info, a=1, b=2, c=3), Clock()
    pool = OrchestratorPool(
        client,
        tuple(client.prices),
        model="comfystream",
        ceiling=Fraction(9),
        trust=Trust(clock=clock),
        clock=clock,
    )

    def start_empty(addr: str) -> None:
        pool.job_opened(addr, paid_as(addr), object()).end(Fraction(60))
        pool.suspend(addr, "no picture", address=paid_as(addr), took_pay=True)

    async def answered() -> dict[str, str]:
        await until(lambda: len(verdicts(pool)) == 3 and "unreachable" not in verdicts(pool).values(), pool)
        return verdicts(pool)

    async with running(pool):
        await answered()
        for addr in ("a:1", "b:1"):
            start = pool.job_opened(addr, paid_as(addr), object())
            for _ in range(5):
                clock.now += 0.5
                start.picture()
        for addr in ("a:1", "b:1"):
            pool.suspend(addr, "channels closed", address=paid_as(addr))
        assert await answered() == {"a:1": "set_aside", "b:1": "set_aside", "c:1": "chosen"}
        start_empty("c:1")
        assert await answered() == {"a:1": "chosen", "b:1": "available", "c:1": "set_aside"}
        start_empty("a:1")
        assert await answered() == {"a:1": "untrusted", "b:1": "untrusted", "c:1": "set_aside"}
        assert pool.ready(), "a publisher waits for its turn"
        clock.now += 0.5
        assert await answered() == {"a:1": "chosen", "b:1": "available", "c:1": "set_aside"}
        pool.job_opened("b:1", paid_as("b:1"), object()).picture()
        assert await answered() == {"a:1": "chosen", "b:1": "available", "c:1": "set_aside"}
        assert pool.state()["orchestrators"][0]["set_aside"] is None


@pytest.mark.asyncio
async def test_a_choice_of_one_does_not_forgive_it(orchestrator_info: InfoMaker) -> None:
    client, clock = strangers(orchestrator_info, a=1, b=2), Clock()
    async with running(pool_of(client, clock=clock)) as pool:
        await until(lambda: len([c for c in pool.candidates() if c.usable]) == 2, pool)
        pool.suspend("a:1", "channels closed", address=paid_as("a:1"))
        await until(lambda: verdicts(pool) == {"b:1": "chosen", "a:1": "set_aside"}, pool)
        (only,) = pool.candidates(only="a:1")
        assert only.verdict is Verdict.SET_ASIDE


@pytest.mark.asyncio
async def test_a_stranger_that_has_its_start_is_untrusted_and_still_ready(
    orchestrator_info: InfoMaker,
) -> None:
    client = strangers(orchestrator_info, a=1)
    async with running(pool_of(client)) as pool:
        await pool.wait_ready()
        start = pool.trust.begin(paid_as("a:1"))
        assert verdicts(pool) == {"a:1": "untrusted"}
        assert pool.ready(), "a publisher waits for its turn"
        assert pool.state()["orchestrators"][0]["trust"]["starts_at_once"] == 1
        start.picture()
        assert verdicts(pool) == {"a:1": "chosen"}


@pytest.mark.asyncio
async def test_at_equal_price_who_has_delivered_goes_first(orchestrator_info: InfoMaker) -> None:
    client = strangers(orchestrator_info, a=5, b=5, c=4)
    proven = Record(paid_as("b:1"), delivered=60.0)
    pool = OrchestratorPool(
        client, tuple(client.prices), model="comfystream", ceiling=Fraction(9), trust=Trust([proven])
    )
    async with running(pool):
        await until(lambda: len([c for c in pool.candidates() if c.usable]) == 3, pool)
        assert [c.addr for c in pool.candidates()] == ["c:1", "b:1", "a:1"]


@pytest.mark.asyncio
async def test_an_orchestrator_that_floods_its_connection_is_suspended(orchestrator_info: InfoMaker) -> None:
    client = Orchestrators(orchestrator_info, a=1, b=2)
    async with running(pool_of(client)) as pool:
        await until(lambda: len([one for one in pool.candidates() if one.usable]) == 2, pool)
        client.flooded("a:1")
        assert verdicts(pool)["b:1"] == "chosen"
        assert "HTTP/2 frames" in pool.state()["orchestrators"][1]["set_aside"]["reason"]
