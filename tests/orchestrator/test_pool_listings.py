"""The pool follows the lists that its sources give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.discovery import DiscoveryFailed, Listing
from tests.orchestrator.pools import (
    InfoMaker,
    Orchestrators,
    all_asked,
    pool_of,
    running,
    until,
    verdicts,
)


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
