"""An endpoint that hangs, lies or is on another chain costs a moment, not the answer."""

from __future__ import annotations

import time

import aiohttp
import pytest

from gateway.chain.errors import ChainUnreachable, RpcRefused
from gateway.chain.networks import ChainNetwork
from gateway.chain.reader import ChainReader
from gateway.chain.rpc import Endpoints
from gateway.devnet.chain.server import ChainServer
from tests.chain.endpoints import Answer, body, chain_id, endpoint, error, result, result_always, silence

pytestmark = pytest.mark.asyncio

GOOD = result("0x2a")


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (silence, "no answer within 0.3 s"),
        (body(b"<html>"), "no JSON-RPC"),
        (body(b"[1, 2]"), "no JSON-RPC"),
        (body(b"[" * 100_000), "no JSON-RPC"),
        (body(b"{}", 502), "HTTP 502"),
        (body(b"x" * 17_000_000), "over"),
        (result_always("moon"), "which chain"),
        (chain_id(2), "on chain 2, not 1"),
        (error(-32005, "rate limited"), ""),
    ],
)
async def test_the_next_endpoint_answers(http: aiohttp.ClientSession, broken: Answer, why: str) -> None:
    async with endpoint(broken) as bad, endpoint(GOOD) as good:
        patience = 0.3 if broken is silence else 20.0
        endpoints = Endpoints(http, [bad.url, good.url], chain_id=1, timeout=patience)
        assert await endpoints.ask("eth_blockNumber", []) == "0x2a"
        assert why in (endpoints.json()[0]["error"] or "")
        assert endpoints.json()[1] == {"url": good.url, "error": None}


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


async def test_a_lie_that_cannot_be_decoded_is_asked_for_elsewhere(
    http: aiohttp.ClientSession, server: ChainServer, network: ChainNetwork
) -> None:
    truth = int(await Endpoints(http, [server.url]).ask("eth_chainId", []), 16)
    for lie in ("0x", "0x1234", "moon", None, 7, ["0x"]):
        async with endpoint(result(lie, on_chain=truth)) as liar:
            endpoints = Endpoints(http, [liar.url, server.url])
            assert (await ChainReader(endpoints, network).rounds()).round_number > 0
            assert "decoded" in endpoints.json()[0]["error"]


async def test_time_is_bounded_whoever_is_asked(http: aiohttp.ClientSession) -> None:
    async with endpoint(silence) as one, endpoint(silence) as two:
        began = time.monotonic()
        with pytest.raises(ChainUnreachable):
            await Endpoints(http, [one.url, two.url], timeout=0.2).ask("eth_blockNumber", [])
        assert time.monotonic() - began < 2
