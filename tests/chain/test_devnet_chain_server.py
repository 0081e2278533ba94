"""The devnet's chain over JSON-RPC, where it differs from eth-tester."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest

from gateway.devnet.chain.evm import ZERO_ADDRESS, Evm
from gateway.devnet.chain.logs import LogIndex
from gateway.devnet.chain.server import ChainServer

SENDER, OTHER = "0x" + "12" * 20, "0x" + "34" * 20


async def ask(http: aiohttp.ClientSession, server: ChainServer, method: str, *params: Any) -> Any:
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    async with http.post(server.url, json=call) as answer:
        body = await answer.json()
    assert "error" not in body, body
    return body["result"]


@pytest.mark.asyncio
async def test_logs_are_found_by_address_topic_and_block(
    evm: Evm, server: ChainServer, http: aiohttp.ClientSession
) -> None:
    first = evm.web3.eth.block_number + 1
    evm.fund(SENDER, deposit=5, reserve=6)
    evm.fund(OTHER, deposit=7, reserve=8)
    broker = evm.contracts["TicketBroker"].address
    everything = {"fromBlock": "earliest", "toBlock": "latest"}
    logs = await ask(http, server, "eth_getLogs", {**everything, "address": broker})
    assert [int(log["data"], 16) for log in logs] == [5, 6, 7, 8]
    assert [int(log["blockNumber"], 16) for log in logs] == [first, first, first + 1, first + 1]
    assert [log["logIndex"] for log in logs] == ["0x0", "0x1", "0x0", "0x1"]
    deposited = logs[0]["topics"][0]
    whose = "0x" + OTHER[2:].rjust(64, "0")
    for topics, data in (
        ([deposited], [5, 7]),
        ([None, whose], [7, 8]),
        ([[deposited], whose], [7]),
        ([deposited, whose, None], []),
    ):
        found = await ask(http, server, "eth_getLogs", {**everything, "address": [broker], "topics": topics})
        assert [int(log["data"], 16) for log in found] == data
    one = await ask(http, server, "eth_getLogs", {"fromBlock": hex(first), "toBlock": hex(first)})
    by_hash = await ask(http, server, "eth_getLogs", {"blockHash": logs[0]["blockHash"]})
    assert one == by_hash == logs[:2]
    assert await ask(http, server, "eth_getLogs", {**everything, "address": SENDER}) == []


def test_logs_of_blocks_that_were_undone_are_forgotten(evm: Evm) -> None:
    index = LogIndex(evm.tester)
    evm.fund(SENDER, deposit=1, reserve=1)
    before = evm.tester.take_snapshot()
    evm.fund(SENDER, deposit=5, reserve=6)
    assert [int(log["data"], 16) for log in index.find(0, None)][-2:] == [5, 6]
    evm.tester.revert_to_snapshot(before)
    evm.fund(SENDER, deposit=7, reserve=8)
    evm.fund(SENDER, deposit=9, reserve=9)
    assert [int(log["data"], 16) for log in index.find(0, None)][-6:] == [1, 1, 7, 8, 9, 9]


class LongChain:
    """A chain of blocks with one log each; `visits` counts the blocks that were read."""

    def __init__(self, blocks: int) -> None:
        self.chaindb, self.backend = None, SimpleNamespace(chain=self)
        self.blocks, self.visits = blocks, 0

    def get_block(self) -> SimpleNamespace:
        return SimpleNamespace(number=self.blocks)

    def get_canonical_block_by_number(self, number: int) -> SimpleNamespace:
        self.visits += 1
        log = SimpleNamespace(address=b"\x12" * 20, topics=[number], data=b"")
        return SimpleNamespace(
            hash=number.to_bytes(32, "big"),
            number=number,
            transactions=[SimpleNamespace(hash=b"\1" * 32)],
            get_receipts=lambda _: [SimpleNamespace(logs=[log])],
        )


def test_logs_are_found_in_time_linear_in_their_number() -> None:
    def seconds(blocks: int) -> float:
        chain = LongChain(blocks)
        index = LogIndex(cast(Any, chain))
        began = time.process_time()
        for _ in range(3):
            assert len(index.find(0, None, addresses=[SENDER])) == blocks
        assert chain.visits <= blocks + 3, "each block is read once"
        return time.process_time() - began

    assert min(seconds(10_000) for _ in range(3)) < 40 * min(seconds(1_000) for _ in range(3))


@pytest.mark.asyncio
async def test_a_call_from_the_zero_address_is_answered(
    evm: Evm, server: ChainServer, http: aiohttp.ClientSession
) -> None:
    rounds = evm.contracts["RoundsManager"]
    call = {
        "from": ZERO_ADDRESS,
        "to": rounds.address,
        "data": rounds.encode_abi("lastInitializedRound", []),
    }
    assert int(await ask(http, server, "eth_call", call, "latest"), 16) > 0


@pytest.mark.asyncio
async def test_a_logs_bloom_has_256_bytes_and_is_the_blocks_in_its_receipt(
    evm: Evm, server: ChainServer, http: aiohttp.ClientSession
) -> None:
    evm.fund(SENDER, deposit=5, reserve=6)
    block = await ask(http, server, "eth_getBlockByNumber", "latest", False)
    (transaction,) = block["transactions"]
    receipt = await ask(http, server, "eth_getTransactionReceipt", transaction)
    assert len(block["logsBloom"]) == len("0x") + 2 * 256
    assert receipt["logsBloom"] == block["logsBloom"]
    assert int(block["logsBloom"], 16) > 0
    evm.mine()
    empty = await ask(http, server, "eth_getBlockByNumber", "latest", False)
    assert empty["logsBloom"] == "0x" + "00" * 256
