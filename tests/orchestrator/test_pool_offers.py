"""What a job is given when it takes an orchestrator of the pool."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.candidates.verdict import Verdict
from gateway.orchestrator.errors import NoCapacity, OfferChanged, PriceRaised
from gateway.orchestrator.pool import OrchestratorPool
from tests.orchestrator.pools import InfoMaker, Orchestrators, all_asked, pool_of, running, until, verdicts


@pytest.mark.asyncio
async def test_no_two_jobs_get_the_same_session(orchestrator_info: InfoMaker) -> None:
    client = Orchestrators(orchestrator_info, a=1)
    async with running(pool_of(client)) as pool:
        await pool.wait_ready()
        first = await pool.take("a:1", Fraction(1))
        assert len(client.asked) == 1, "the first is in hand"
        others = await asyncio.gather(*(pool.take("a:1", Fraction(1)) for _ in range(5)))
        assert len({info.session_id for info in (first, *others)}) == 6
        assert pool.ready(), "one that has been given out still tells the price"


@pytest.mark.asyncio
async def test_after_one_is_taken_the_next_is_fetched_without_being_asked_for(
    orchestrator_info: InfoMaker,
) -> None:
    client = Orchestrators(orchestrator_info, a=1)
    async with running(pool_of(client)) as pool:
        await pool.wait_ready()
        await pool.take("a:1", Fraction(1))
        await until(lambda: len(client.asked) == 2, pool)
        await pool.take("a:1", Fraction(1))
        assert len(client.asked) == 2


@pytest.mark.asyncio
async def test_taking_from_one_that_fails_says_how_it_fails(orchestrator_info: InfoMaker) -> None:
    client = Orchestrators(orchestrator_info, a=1)
    async with running(pool_of(client)) as pool:
        await pool.wait_ready()
        await pool.take("a:1", Fraction(1))
        client.failing["a:1"] = NoCapacity("full")
        with pytest.raises(NoCapacity):
            await pool.take("a:1", Fraction(1))
        assert verdicts(pool) == {"a:1": "no_capacity"}


@pytest.mark.asyncio
async def test_one_that_is_no_longer_listed_gets_no_job(orchestrator_info: InfoMaker) -> None:
    client = Orchestrators(orchestrator_info, a=1)
    with pytest.raises(OfferChanged, match="no longer listed"):
        await pool_of(client).take("a:1", Fraction(1))
    assert not client.asked


@given(prices=st.lists(st.integers(1, 10_100), min_size=1, max_size=8))
@settings(max_examples=50)
def test_no_job_gets_an_offer_that_is_dearer_than_what_it_was_chosen_for(
    orchestrator_info: InfoMaker, prices: list[int]
) -> None:
    asyncio.run(_take_at_each_price(Orchestrators(orchestrator_info, a=prices[0]), prices))


async def _take_at_each_price(client: Orchestrators, prices: list[int]) -> None:
    async with running(pool_of(client)) as pool:
        await until(lambda: bool(pool.candidates()), pool)
        await all_asked(pool)
        for price in prices:
            chosen_for = pool.candidates()[0].price
            assert chosen_for is not None
            client.prices["a:1"] = price
            try:
                info = await pool.take("a:1", chosen_for)
            except PriceRaised:
                now = pool.candidates()[0].price
                assert now is not None
                assert now > min(chosen_for, 10_000), "the next job is chosen at the newer price"
            else:
                assert info.price is not None
                assert info.price <= min(chosen_for, 10_000)


@pytest.mark.asyncio
async def test_the_checks_are_made_again_before_a_job_gets_its_offer(orchestrator_info: InfoMaker) -> None:
    client = Orchestrators(orchestrator_info, a=1)
    blocked: list[str] = []
    pool = OrchestratorPool(
        client,
        tuple(client.prices),
        model="comfystream",
        ceiling=Fraction(10_000),
        checks=[lambda listing, info: (Verdict.BLOCKED, "blocked") if listing.addr in blocked else None],
    )
    async with running(pool):
        await pool.wait_ready()
        blocked.append("a:1")
        with pytest.raises(OfferChanged, match="blocked"):
            await pool.take("a:1", Fraction(1))
        blocked.clear()
        await pool.take("a:1", Fraction(1))
        assert client.asked == ["a:1"], "the offer is kept for a job that may have it"
