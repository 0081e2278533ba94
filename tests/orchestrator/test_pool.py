"""The pool: recent answers, verdicts, readiness, nothing left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import psutil
import pytest
from grpclib import GRPCError, Status

from gateway.candidates.verdict import Verdict
from gateway.orchestrator.client import OrchestratorClient
from gateway.orchestrator.errors import BadAnswer, Unreachable
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.pool import OrchestratorPool
from gateway.orchestrator.selection import NEARLY
from harness.waiting import DEADLINE, SLACK
from tests.orchestrator.pools import InfoMaker, Orchestrators, all_asked, pool_of, running, until, verdicts


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
async def test_a_stream_may_name_the_one_it_wants(orchestrator_info: InfoMaker) -> None:
    client = Orchestrators(orchestrator_info, a=1, b=2)
    async with running(pool_of(client)) as pool:
        await until(lambda: len([c for c in pool.candidates() if c.usable]) == 2, pool)
        (named,) = pool.candidates(only="https://b:1")
        assert (named.addr, named.verdict) == ("b:1", Verdict.AVAILABLE)
        assert pool.candidates(only="c:1") == []
        assert {c.verdict for c in pool.candidates("other")} == {Verdict.MODEL_NOT_OFFERED}


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
