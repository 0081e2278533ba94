"""Failover between RPC endpoints."""

from __future__ import annotations

import json
import time

import aiohttp
import pytest

from gateway.chain.errors import ChainUnreachable, RpcRefused
from gateway.chain.networks import ChainNetwork
from gateway.chain.reader import ChainReader
from gateway.chain.rpc import Endpoints
from gateway.devnet.chain.server import ChainServer
from harness.pieces import answering_in_pieces
from harness.waiting import SLACK
from tests.chain.endpoints import (
    Answer,
    after,
    body,
    chain_id,
    endpoint,
    error,
    result,
    result_always,
    silence,
)

pytestmark = pytest.mark.asyncio

GOOD = result("0x2a")


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (silence, "no answer within 0.3 s"),
        (body(b"<html>"), "not JSON-RPC"),
        (body(b"[1, 2]"), "not JSON-RPC"),
        (body(b"[" * 7_000), "not JSON-RPC"),
        (body(b"[" * 100_000), "too large"),
        (body(b'{"result": [' + b"0," * 20_000 + b"0]}"), "too large"),
        (body(b"{}", 502), "HTTP 502"),
        (body(b"x" * 17_000_000), "over"),
        (result_always("moon"), "chain id"),
        (chain_id(2), "on chain 2, not 1"),
        (error(-32005, "daily request count exceeded, request rate limited"), "limits the rate"),
        (error(429, "exceeded its compute units per second capacity"), "limits the rate"),
        (body(b"slow down", 429), "limits the rate"),
        (error(-32000, "header not found"), ""),
    ],
)
async def test_the_next_endpoint_answers(http: aiohttp.ClientSession, broken: Answer, why: str) -> None:
    async with endpoint(broken) as bad, endpoint(GOOD) as good:
        patience = 0.3 if broken is silence else 20.0
        endpoints = Endpoints(http, [bad.url, good.url], chain_id=1, timeout=patience)
        assert await endpoints.ask("eth_blockNumber", []) == "0x2a"
        assert why in (endpoints.json()[0]["error"] or "")
        assert endpoints.json()[1] == {"url": good.url, "error": None}


@pytest.mark.parametrize("large", [["0x0"] * 20_000, "0x" + "0" * 3_000_000], ids=["values", "bytes"])
async def test_where_no_other_endpoint_answers_what_is_too_large_may_be_asked_for_in_parts(
    http: aiohttp.ClientSession, large: object
) -> None:
    async with endpoint(result(large)) as one, endpoint(body(b"", 502)) as other:
        endpoints = Endpoints(http, [one.url, other.url], chain_id=1)
        with pytest.raises(RpcRefused, match=r"too large|over"):
            await endpoints.ask("eth_getLogs", [{}])


async def test_an_answer_that_comes_in_pieces_is_read_to_its_end(http: aiohttp.ClientSession) -> None:
    answer = {"jsonrpc": "2.0", "id": 1, "more": "x" * 4000, "result": "0x1"}
    async with answering_in_pieces(json.dumps(answer).encode()) as url:
        assert await Endpoints(http, [url], chain_id=1).ask("eth_blockNumber", []) == "0x1"


async def test_an_endpoint_that_is_gone_is_asked_last_for_a_while_and_then_again(
    http: aiohttp.ClientSession,
) -> None:
    now = 0.0
    async with endpoint(silence) as bad, endpoint(GOOD) as good:
        endpoints = Endpoints(http, [bad.url, good.url], timeout=0.2, clock=lambda: now)
        for _ in range(3):
            assert await endpoints.ask("eth_blockNumber", []) == "0x2a"
        assert bad.asked == 1
        bad.answer, now = result("0x2b"), 31.0
        assert await endpoints.ask("eth_blockNumber", []) == "0x2b"


async def test_without_any_answer_every_endpoint_is_named_but_not_its_key(
    http: aiohttp.ClientSession,
) -> None:
    async with endpoint(silence) as slow, endpoint(body(b"?")) as garbage:
        urls = [f"{slow.url}/secret-key", garbage.url]
        endpoints = Endpoints(http, urls, timeout=0.2)
        with pytest.raises(ChainUnreachable, match=rf"{garbage.url}") as caught:
            await endpoints.ask("eth_blockNumber", [])
        assert "secret-key" not in str(caught.value)


async def test_a_contract_that_reverts_is_the_answer(http: aiohttp.ClientSession) -> None:
    async with endpoint(error(3, "execution reverted: no")) as first, endpoint(GOOD) as second:
        with pytest.raises(RpcRefused, match="execution reverted: no"):
            await Endpoints(http, [first.url, second.url]).ask("eth_call", [])
        assert second.asked == 0


@pytest.mark.parametrize(
    "words",
    [
        "query returned more than 10000 results",
        "range 1000000 exceeds limit of 10000",
        "eth_getLogs is limited to a 10,000 range",
        "You can make eth_getLogs requests with up to a 10 block range.",
        "block range is larger than max block range",
        "query timeout exceeded",
        "Log response size exceeded.",
    ],
)
async def test_a_result_limit_is_not_a_rate_limit(http: aiohttp.ClientSession, words: str) -> None:
    async with endpoint(error(-32005, words, status=400)) as narrow:
        endpoints = Endpoints(http, [narrow.url])
        with pytest.raises(RpcRefused, match=words[:10]):
            await endpoints.ask("eth_getLogs", [])
        assert narrow.asked == 2
        assert endpoints.json()[0]["error"] is None


async def test_a_rate_limit_is_waited_out(http: aiohttp.ClientSession) -> None:
    async with endpoint(body(b"slow down", 429)) as busy:
        with pytest.raises(ChainUnreachable, match="limits the rate"):
            await Endpoints(http, [busy.url], pauses=(0.0, 0.0)).ask("eth_blockNumber", [])
        assert busy.asked == 3
        busy.answer = after(2, body(b"slow down", 429), GOOD)
        assert await Endpoints(http, [busy.url], pauses=(0.0, 0.0)).ask("eth_blockNumber", []) == "0x2a"


async def test_several_calls_are_one_request_where_the_endpoint_takes_that(
    http: aiohttp.ClientSession, server: ChainServer
) -> None:
    calls: list[tuple[str, list[str]]] = [("eth_blockNumber", []), ("eth_chainId", []), ("eth_gasPrice", [])]
    truth = [await Endpoints(http, [server.url]).ask(*call) for call in calls]
    assert await Endpoints(http, [server.url]).ask_all(calls) == truth
    async with endpoint(GOOD) as single:
        endpoints = Endpoints(http, [single.url])
        for _ in range(2):
            assert await endpoints.ask_all([("eth_blockNumber", [])] * 3) == ["0x2a"] * 3
        # which chain, the batch that it did not take, and then one by one
        assert single.asked == 1 + 1 + 3 + 3


async def test_an_answer_that_cannot_be_decoded_is_asked_for_elsewhere(
    http: aiohttp.ClientSession, server: ChainServer, network: ChainNetwork
) -> None:
    truth = int(await Endpoints(http, [server.url]).ask("eth_chainId", []), 16)
    for lie in ("0x", "0x1234", "moon", None, 7, ["0x"]):
        async with endpoint(result(lie, on_chain=truth)) as liar:
            endpoints = Endpoints(http, [liar.url, server.url])
            assert (await ChainReader(endpoints, network).rounds()).round_number > 0
            assert "decoded" in endpoints.json()[0]["error"]


async def test_every_endpoint_has_a_time_limit(http: aiohttp.ClientSession) -> None:
    async with endpoint(silence) as one, endpoint(silence) as two:
        began = time.monotonic()
        with pytest.raises(ChainUnreachable):
            await Endpoints(http, [one.url, two.url], timeout=0.2).ask("eth_blockNumber", [])
        assert time.monotonic() - began < SLACK
