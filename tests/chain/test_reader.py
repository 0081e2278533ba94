"""Reading the contracts through web3."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.chain.errors import ChainError
from gateway.chain.facts import SenderFunds
from gateway.chain.networks import ChainNetwork
from gateway.chain.reader import ChainReader
from gateway.chain.rpc import Endpoints
from gateway.devnet.account import Account
from gateway.devnet.chain.evm import ETHER, Evm
from gateway.devnet.chain.server import ChainServer
from harness.waiting import SLACK
from tests.chain.endpoints import endpoint
from tests.chain.tickets import BLOCK_HASH, ORCHESTRATOR, SENDER, redeem, winning_ticket

pytestmark = pytest.mark.asyncio


async def test_funds_are_the_contracts(reader: ChainReader, evm: Evm) -> None:
    assert await reader.funds(SENDER.address) == SenderFunds(0, 0, 0, 0)
    evm.fund(SENDER.address, deposit=3 * ETHER, reserve=ETHER)
    assert await reader.funds(SENDER.address) == SenderFunds(3 * ETHER, 0, ETHER, 0)


async def test_the_clock_is_the_contracts(reader: ChainReader, evm: Evm) -> None:
    before = await reader.rounds()
    evm.advance(before.l1_block + 50, before.round_number + 1, BLOCK_HASH)
    after = await reader.rounds()
    assert after.l1_block >= before.l1_block + 50
    assert after.round_number == before.round_number + 1


async def test_the_ai_registry_goes_before_the_other(reader: ChainReader, evm: Evm) -> None:
    both, old, silent = (Account(bytes([n]) * 32).address for n in (11, 12, 13))
    evm.register(both, "https://ai.example:8935")
    evm.register(both, "https://transcoder.example:8935", registry="ServiceRegistry")
    evm.register(old, "https://old.example:8935", registry="ServiceRegistry")
    evm.register(silent, "")
    assert await reader.active_orchestrators() == [
        (both, "https://ai.example:8935"),
        (old, "https://old.example:8935"),
    ]


async def test_an_empty_pool_is_empty(reader: ChainReader) -> None:
    assert await reader.active_orchestrators() == []


async def test_redemptions_are_found_by_sender_in_their_order(reader: ChainReader, evm: Evm) -> None:
    evm.advance(10**11, 10**9, BLOCK_HASH)
    for sender in (SENDER, Account(b"\x09" * 32)):
        evm.fund(sender.address, deposit=3 * ETHER, reserve=ETHER)
        ticket = winning_ticket(sender=sender.raw_address, creation_round=10**9)
        redeem(evm, ticket, sender.sign(ticket.hash))
    first, second = await reader.redemptions(SENDER.address, 0, await reader.head())
    assert (first.event, second.event) == ("WinningTicketTransfer", "WinningTicketRedeemed")
    assert first.transaction == second.transaction
    assert first.arguments["amount"] == ETHER
    assert second.arguments["recipient"] == ORCHESTRATOR.address
    assert second.block_hash == await reader.block_hash(second.block)
    assert await reader.redemptions(SENDER.address, 0, first.block - 1) == []
    assert await reader.block_hash(10**6) is None


async def test_a_thousand_logs_leave_others_their_turn(
    http: aiohttp.ClientSession, server: ChainServer, network: ChainNetwork, evm: Evm
) -> None:
    evm.advance(10**11, 10**9, BLOCK_HASH)
    evm.fund(SENDER.address, deposit=3 * ETHER, reserve=ETHER)
    redeem(evm, winning_ticket(creation_round=10**9))

    async def multiplied(call: dict[str, Any]) -> web.Response:
        async with http.post(server.url, json=call) as response:
            answer = await response.json()
        if call["method"] == "eth_getLogs":
            answer["result"] *= 500
        return web.json_response(answer)

    turns: list[float] = []

    async def others() -> None:
        while True:
            turns.append(time.process_time())
            await asyncio.sleep(0)

    async with endpoint(multiplied) as many:
        reader = ChainReader(Endpoints(http, [many.url]), network)
        await reader.redemptions(SENDER.address, 0, await reader.head())
        other = asyncio.get_running_loop().create_task(others())
        found = await reader.redemptions(SENDER.address, 0, await reader.head())
        other.cancel()
    assert len(found) == 1000
    assert max(after - before for before, after in pairwise(turns)) < 0.05 * SLACK


async def test_a_wrong_controller_is_named_in_the_error(
    http: aiohttp.ClientSession, server: ChainServer, evm: Evm
) -> None:
    empty = ChainNetwork(controller=evm.contracts["ServiceRegistry"].address)
    reader = ChainReader(Endpoints(http, [server.url]), empty)
    with pytest.raises(ChainError):
        await reader.rounds()
