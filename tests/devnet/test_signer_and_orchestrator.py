"""A signer's payments at an orchestrator: the two sides of the protocol against each other."""

from __future__ import annotations

import base64
import json
from fractions import Fraction
from typing import Any

import aiohttp
import pytest

from gateway.devnet.chain_clock import ChainClock
from gateway.devnet.signer import Signer, SignerConfig, serve
from gateway.orchestrator.livepeer_pb2 import OrchestratorInfo, PaymentResult
from tests.devnet.peer import ASKED, JOB, WEI_PER_SECOND, HandClock, Peer, base64_of, peer

KEY = bytes([2]) * 32
"""The key of the test's sender too, so that an orchestrator is asked in the signer's name."""


async def sign(
    http: aiohttp.ClientSession, signer: Signer, info: OrchestratorInfo, mid: str, state: Any
) -> tuple[int, dict[str, Any]]:
    body = {
        "orchestrator": base64_of(info),
        "type": "lv2v",
        "ManifestID": mid,
        "capabilities": base64_of(ASKED),
        "state": state,
    }
    async with http.post(signer.url + "/generate-live-payment", json=body) as answer:
        return answer.status, await answer.json()


async def start(at: Peer, signer: Signer) -> tuple[OrchestratorInfo, dict[str, str], Any]:
    """A started job: its info, its URLs, the signer's state."""
    info = await at.info()
    status, signed = await sign(at.http, signer, info, "", None)
    assert status == 200
    answer = await at.post(
        "/live-video-to-video", payment=signed["payment"], segment=signed["segCreds"], body=JOB
    )
    assert answer.status == 200, answer
    return info, json.loads(answer.body), signed["state"]


async def deliver(at: Peer, signed: dict[str, Any]) -> OrchestratorInfo:
    answer = await at.post("/payment", payment=signed["payment"], segment=signed["segCreds"])
    assert answer.status == 200, answer
    return OrchestratorInfo.FromString(PaymentResult.FromString(answer.body).info)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("ticket_seconds", "price"),
    [
        (Fraction(3, 5), Fraction(10**15)),
        (Fraction(1), Fraction(10**15 + 1)),
        (Fraction(4), Fraction(10**18)),
        (Fraction(61), Fraction(10**13, 3)),
    ],
)
async def test_a_stream_paid_at_every_interval_is_covered_all_along(
    ticket_seconds: Fraction, price: Fraction
) -> None:
    wall = HandClock()
    clock = ChainClock(now_ns=wall)
    signer = await serve(SignerConfig(key=KEY, clock=clock, preload=Fraction(10)))
    try:
        async with peer(price_wei_per_second=price, ticket_seconds=ticket_seconds, clock=clock) as at:
            info, urls, state = await start(at, signer)
            for seq in range(12):
                wall.advance(1)
                at.monotonic.advance(1)
                await at.segment_bytes(urls, seq)
                status, signed = await sign(at.http, signer, info, urls["manifest_id"], state)
                assert status in (200, 482)
                if status == 200:
                    state = signed["state"]
                    info = await deliver(at, signed)
            audit = await at.audit()
            assert (audit["rejected"], audit["duplicate_nonces"], audit["stale_params"]) == (0, 0, 0)
            assert int(audit["min_balance_wei"]) > 0
            assert audit["debited_wei"] == str(int(12 * price))
            assert not audit["sessions"][urls["manifest_id"]]["ended"]
    finally:
        await signer.stop()


@pytest.mark.asyncio
async def test_tokens_and_params_that_run_out_are_refreshed_within_the_session() -> None:
    wall = HandClock()
    clock = ChainClock(block_time=0.1, now_ns=wall)
    signer = await serve(SignerConfig(key=KEY, clock=clock))
    try:
        async with peer(clock=clock, token_life=190, capacity=1) as at:
            info, urls, state = await start(at, signer)
            for _ in range(4):
                wall.advance(11)
                status, _ = await sign(at.http, signer, info, urls["manifest_id"], state)
                assert status == 480
                info = await at.info(ignore_capacity=True)
                status, signed = await sign(at.http, signer, info, urls["manifest_id"], state)
                assert status == 200
                state = signed["state"]
                info = await deliver(at, signed)
            session = (await at.audit())["sessions"][urls["manifest_id"]]
            assert (session["tickets"], session["rejected"], session["stale_params"]) == (60 + 44, 0, 0)
    finally:
        await signer.stop()


@pytest.mark.asyncio
async def test_a_price_that_drifts_up_is_481_and_the_refreshed_session_price_is_paid_on() -> None:
    wall = HandClock()
    clock = ChainClock(now_ns=wall)
    signer = await serve(SignerConfig(key=KEY, clock=clock))
    try:
        async with peer(clock=clock) as at:
            info, urls, state = await start(at, signer)
            await at.change(price_wei_per_second=str(WEI_PER_SECOND + 1))
            wall.advance(5)
            _, signed = await sign(at.http, signer, info, urls["manifest_id"], state)
            state, info = signed["state"], await deliver(at, signed)
            wall.advance(5)
            status, _ = await sign(at.http, signer, info, urls["manifest_id"], state)
            assert status == 481
            body = {"sender": signer.address, "manifest_id": urls["manifest_id"]}
            refreshed = json.loads((await at.post("/refresh-payment", body=body)).body)
            info = OrchestratorInfo.FromString(base64.b64decode(refreshed["payment_params"]))
            status, signed = await sign(at.http, signer, info, urls["manifest_id"], state)
            assert status == 200
            await deliver(at, signed)
    finally:
        await signer.stop()
