"""The pool: recent answers, one job each, faults and suspensions, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import psutil
import pytest
from eth_utils.address import to_checksum_address
from grpclib import GRPCError, Status
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.candidates.trust import Record, Trust
from gateway.candidates.verdict import Verdict
from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.client import INFO_TIMEOUT, OrchestratorClient
from gateway.orchestrator.discovery import DiscoveryFailed, Listing, Source
from gateway.orchestrator.errors import (
    BadAnswer,
    NoCapacity,
    OfferChanged,
    OrchestratorError,
    PriceRaised,
    Unreachable,
)
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.pool import ROOM_AGE, ROOM_TIMEOUT, OrchestratorPool
from gateway.orchestrator.selection import NEARLY
from harness.waiting import DEADLINE, SLACK

InfoMaker = Callable[..., livepeer_pb2.OrchestratorInfo]


class Orchestrators:
    """Stands in for the client: each address answers with a new session at its price, or fails."""

    def __init__(self, make: InfoMaker, **prices: int) -> None:
        self._make = make
        self.room = 0
        """For how many more jobs each says that it has room; 0: it does not say."""
        self.are_strangers = False
        """Whether each is paid as somebody else."""
        self.prices = {f"{name}:1": price for name, price in prices.items()}
        self.failing: dict[str, OrchestratorError] = {}
        self.asked: list[str] = []
        self.timeouts: list[float] = []
        self.lost: Callable[[str], None] = lambda addr: None

    async def get_info(self, addr: str, *, timeout: float) -> OrchestratorInfo:
        self.asked.append(addr)
        self.timeouts.append(timeout)
        session = f"{addr} {len(self.asked)}"
        await asyncio.sleep(0)
        if addr in self.failing:
            raise self.failing[addr]
        message = self._make(f"https://{addr}", self.prices[addr], session=session)
        message.capabilities.constraints.PerCapability[35].models["comfystream"].capacity = self.room
        if self.are_strangers:
            message.ticket_params.recipient = recipient(addr)
        return OrchestratorInfo.parse(message.SerializeToString())

    def on_connection_lost(self, callback: Callable[[str], None]) -> None:
        self.lost = callback

    def on_flood(self, callback: Callable[[str], None]) -> None:
        self.flooded = callback

    def operator_named(self, named: Callable[[str], bool]) -> None:
        self.named = named


def strangers(make: InfoMaker, **prices: int) -> Orchestrators:
    """Orchestrators that are paid as one each."""
    made = Orchestrators(make, **prices)
    made.are_strangers = True
    return made


def recipient(addr: str) -> bytes:
    """Whom an orchestrator is paid as."""
    return addr.encode().ljust(20, b"\1")


def paid_as(addr: str) -> str:
    return to_checksum_address(recipient(addr))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def running(pool: OrchestratorPool) -> AsyncIterator[OrchestratorPool]:
    """Run a pool beside the test, and see that nothing of it is left."""
    task = asyncio.get_running_loop().create_task(pool.run(), name="pool under test")
    try:
        yield pool
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        left = {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}
        assert not left


def pool_of(
    client: Any, *sources: Source | str, ceiling: int = 10_000, clock: Callable[[], float] = time.monotonic
) -> OrchestratorPool:
    return OrchestratorPool(
        client,
        sources or tuple(client.prices),
        model="comfystream",
        ceiling=Fraction(ceiling),
        clock=clock,
    )


async def until(condition: Callable[[], bool], pool: OrchestratorPool) -> None:
    """Wait for something that a change of the pool brings about."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await pool.wait_changed()


def verdicts(pool: OrchestratorPool) -> dict[str, str]:
    """As operators see them: `chosen` is the one that the next stream would start on."""
    return {one["addr"]: one["verdict"] for one in pool.state()["orchestrators"]}


async def all_asked(pool: OrchestratorPool) -> None:
    await until(lambda: all(c.detail != "it has not answered yet" for c in pool.candidates()), pool)


@pytest.mark.asyncio
async def test_an_orchestrator_whose_tickets_the_funds_do_not_back_is_passed_over(
    orchestrator_info: InfoMaker,
) -> None:
    client, short = Orchestrators(orchestrator_info, a=2000, b=3000), {"https://a:1"}
    pool = OrchestratorPool(
        client,
        tuple(client.prices),
        model="comfystream",
        ceiling=Fraction(10_000),
        checks=[
            lambda listing, info: (Verdict.UNFUNDED, "fund the deposit") if info.url in short else None,
        ],
    )
    async with running(pool):
        await until(lambda: verdicts(pool) == {"b:1": "chosen", "a:1": "unfunded"}, pool)
        short.add("https://b:1")
        assert not pool.ready()
        assert all("fund the deposit" in reason for reason in pool.reasons_not_ready())


@pytest.mark.asyncio
async def test_everybody_gets_a_verdict_and_the_cheapest_is_chosen(orchestrator_info: InfoMaker) -> None:
    client = Orchestrators(orchestrator_info, a=3000, b=2000, c=10_001, d=10_000)
    async with running(pool_of(client)) as pool:
        await until(lambda: "c:1" in client.asked and pool.ready(), pool)
        await all_asked(pool)
        assert verdicts(pool) == {
            "b:1": "chosen",
            "a:1": "available",
            "d:1": "available",
            "c:1": "price_above_max",
        }
        asked = len(client.asked)
        assert [c.addr for c in pool.candidates()] == ["b:1", "a:1", "d:1", "c:1"]
        assert pool.candidates()[0].verdict is Verdict.AVAILABLE, "chosen is what a stream starts on"
        pool.state()
        assert len(client.asked) == asked, "what is known is told without asking"


@pytest.mark.asyncio
async def test_it_is_ready_with_the_first_usable_answer_however_slow_the_others(
    orchestrator_info: InfoMaker,
) -> None:
    class OneSlow(Orchestrators):
        async def get_info(self, addr: str, *, timeout: float) -> OrchestratorInfo:
            if addr == "slow:1":
                await asyncio.Event().wait()
            return await super().get_info(addr, timeout=timeout)

    async with running(pool_of(OneSlow(orchestrator_info, slow=1, dear=20_000, good=5))) as pool:
        assert not pool.ready()
        async with asyncio.timeout(DEADLINE):
            await pool.wait_ready()
        assert verdicts(pool)["good:1"] == "chosen"
        assert verdicts(pool)["slow:1"] == "unreachable"
        assert pool.reasons_not_ready() == []


@pytest.mark.asyncio
async def test_why_nobody_can_be_served_is_said_for_each(orchestrator_info: InfoMaker) -> None:
    client = Orchestrators(orchestrator_info, a=10_001, b=1)
    client.failing["b:1"] = Unreachable("connection refused")
    pool = pool_of(client)
    assert pool.reasons_not_ready() == ["no orchestrator is known"]
    async with running(pool):
        await until(lambda: len(pool.candidates()) == 2, pool)
        await all_asked(pool)
        assert pool.reasons_not_ready() == [
            f"https://a:1: price_above_max: 10001 wei per second, above the ceiling of 10000{NEARLY}",
            "https://b:1: unreachable: connection refused",
        ]


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


@pytest.mark.asyncio
async def test_a_lost_connection_is_looked_into_at_once(orchestrator_info: InfoMaker) -> None:
    client = Orchestrators(orchestrator_info, a=1, b=2)
    async with running(pool_of(client)) as pool:
        await until(lambda: len([c for c in pool.candidates() if c.usable]) == 2, pool)
        client.failing["a:1"] = Unreachable("refused")
        client.lost("a:1")
        client.lost("unknown:1")
        await until(lambda: verdicts(pool) == {"b:1": "chosen", "a:1": "unreachable"}, pool)


@pytest.mark.asyncio
async def test_one_that_comes_back_is_found_again(orchestrator_info: InfoMaker) -> None:
    client = Orchestrators(orchestrator_info, a=1)
    client.failing["a:1"] = BadAnswer("garbage")
    async with running(pool_of(client)) as pool:
        await until(lambda: bool(pool.candidates()), pool)
        await all_asked(pool)
        assert verdicts(pool) == {"a:1": "bad_answer"}
        client.failing.clear()
        await until(pool.ready, pool)


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

    def in_vain(addr: str) -> None:
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
        in_vain("c:1")
        assert await answered() == {"a:1": "chosen", "b:1": "available", "c:1": "set_aside"}
        in_vain("a:1")
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


@pytest.mark.asyncio
async def test_a_stream_may_name_the_one_it_wants(orchestrator_info: InfoMaker) -> None:
    client = Orchestrators(orchestrator_info, a=1, b=2)
    async with running(pool_of(client)) as pool:
        await until(lambda: len([c for c in pool.candidates() if c.usable]) == 2, pool)
        (named,) = pool.candidates(only="https://b:1")
        assert (named.addr, named.verdict) == ("b:1", Verdict.AVAILABLE)
        assert pool.candidates(only="c:1") == []
        assert {c.verdict for c in pool.candidates("other")} == {Verdict.MODEL_NOT_OFFERED}


class Changing:
    """A source whose list a test changes; None makes it fail."""

    name = "webhook"
    interval: float | None = 0.01

    def __init__(self, *addrs: str) -> None:
        self.found: Sequence[Listing] | None = [Listing(addr) for addr in addrs]

    async def listings(self) -> list[Listing]:
        if self.found is None:
            raise DiscoveryFailed("HTTP 500")
        return list(self.found)


@pytest.mark.asyncio
async def test_the_list_is_followed(orchestrator_info: InfoMaker) -> None:
    client, source = Orchestrators(orchestrator_info, a=1, b=2), Changing("a:1")
    async with running(pool_of(client, source)) as pool:
        await until(lambda: verdicts(pool) == {"a:1": "chosen"}, pool)
        source.found = [Listing("b:1")]
        await until(lambda: verdicts(pool) == {"b:1": "chosen"}, pool)


@pytest.mark.asyncio
@pytest.mark.parametrize("nothing", [None, []])
async def test_a_list_that_fails_or_is_empty_keeps_the_last_one(
    orchestrator_info: InfoMaker, nothing: list[Listing] | None
) -> None:
    client, source = Orchestrators(orchestrator_info, a=1), Changing("a:1")
    async with running(pool_of(client, source)) as pool:
        await pool.wait_ready()
        source.found = nothing
        await until(lambda: pool.state()["sources"][0]["error"] is not None, pool)
        assert pool.ready()
        (told,) = pool.state()["sources"]
        assert told["listed"] == 1
        assert told["error"] in ("HTTP 500", "the list is empty")


@pytest.mark.asyncio
async def test_one_that_answers_as_somebody_else_is_passed_over(orchestrator_info: InfoMaker) -> None:
    client, source = Orchestrators(orchestrator_info, a=1, b=2), Changing()
    source.found = [Listing("a:1", ("0x" + "02" * 20,)), Listing("b:1", ("0x" + "01" * 20,))]
    async with running(pool_of(client, source)) as pool:
        await pool.wait_ready()
        await all_asked(pool)
        assert verdicts(pool) == {"b:1": "chosen", "a:1": "bad_answer"}
        source.found = [Listing("a:1", ("0x" + "01" * 20,)), Listing("b:1", ("0x" + "01" * 20,))]
        await until(lambda: verdicts(pool)["a:1"] != "bad_answer", pool)


@pytest.mark.asyncio
async def test_a_listing_names_the_wallet_that_is_paid(orchestrator_info: InfoMaker) -> None:
    hot, cold = "0x" + "01" * 20, "0x" + "02" * 20

    def paid_cold(*arguments: Any, **fields: Any) -> livepeer_pb2.OrchestratorInfo:
        message = orchestrator_info(*arguments, **fields)
        message.ticket_params.recipient = bytes.fromhex(cold[2:])
        return message

    client, source = Orchestrators(paid_cold, a=1, b=2), Changing()
    source.found = [Listing("a:1", (hot,)), Listing("b:1", (cold,))]
    async with running(pool_of(client, source)) as pool:
        await pool.wait_ready()
        await all_asked(pool)
        assert verdicts(pool) == {"b:1": "chosen", "a:1": "bad_answer"}


@pytest.mark.asyncio
async def test_real_orchestrators_are_asked_in_parallel_and_nothing_is_left_behind(
    client: OrchestratorClient, grpc_orchestrator: Callable[[], Any]
) -> None:
    good, hanging, capped = [await grpc_orchestrator() for _ in range(3)]

    async def hang(_: Any) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def full(_: Any) -> bytes:
        raise GRPCError(Status.UNKNOWN, "OrchestratorCapped")

    hanging.answer, capped.answer = hang, full
    fds = psutil.Process().num_fds()
    addrs = (good.addr, hanging.addr, capped.addr, "127.0.0.1:1")
    started = time.monotonic()
    async with running(pool_of(client, *addrs, ceiling=1000)) as pool:
        await pool.wait_ready()
        assert time.monotonic() - started < SLACK * 1
        await all_asked(pool)
        assert time.monotonic() - started < SLACK * 1.5, "all within one deadline"
        assert verdicts(pool) == {
            good.addr: "chosen",
            hanging.addr: "unreachable",
            capped.addr: "no_capacity",
            "127.0.0.1:1": "unreachable",
        }
        taken = await pool.take(good.addr, Fraction(1000))
        assert taken.url == f"https://{good.addr}"
        await good.stop()
        await until(lambda: not pool.ready(), pool)
    await client.close()
    await asyncio.gather(hanging.stop(), capped.stop())
    await asyncio.sleep(0)
    assert psutil.Process().num_fds() <= fds


@pytest.mark.asyncio
async def test_an_orchestrator_that_floods_its_connection_is_suspended(orchestrator_info: InfoMaker) -> None:
    client = Orchestrators(orchestrator_info, a=1, b=2)
    async with running(pool_of(client)) as pool:
        await until(lambda: len([one for one in pool.candidates() if one.usable]) == 2, pool)
        client.flooded("a:1")
        assert verdicts(pool)["b:1"] == "chosen"
        assert "HTTP/2 frames" in pool.state()["orchestrators"][1]["set_aside"]["reason"]
