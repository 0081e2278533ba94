"""Jobs at an orchestrator: every refusal in its order, and what a start and an end do."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from gateway.devnet.account import Account
from gateway.devnet.chain_clock import ChainClock
from gateway.devnet.orchestrator import running_jobs
from gateway.devnet.runner.server import START_TRIES, RunnerConfig
from gateway.orchestrator import client
from gateway.orchestrator.capabilities import capabilities
from gateway.orchestrator.livepeer_pb2 import AuthToken, Capabilities, OrchestratorInfo, Payment, SegData
from harness.waiting import DEADLINE
from tests.devnet.peer import JOB, MODEL, WEI_PER_SECOND, HandClock, Peer, base64_of, peer

STRANGER = Account(bytes([9]) * 32)


@pytest.mark.asyncio
async def test_a_start_opens_four_channels_and_hands_the_job_to_the_runner() -> None:
    async with peer() as at:
        urls = await at.start(await at.info())
        mid, base = urls["manifest_id"], at.orchestrator.where.url + "/ai/trickle/"
        assert urls == {
            "manifest_id": mid,
            "publish_url": base + mid,
            "subscribe_url": base + mid + "-out",
            "control_url": base + mid + "-control",
            "events_url": base + mid + "-events",
        }
        assert at.runner.jobs == [
            {
                **JOB,
                "manifest_id": mid,
                "subscribe_url": base + mid,
                "publish_url": base + mid + "-out",
                "control_url": base + mid + "-control",
                "events_url": base + mid + "-events",
            }
        ]
        for name in ("publish_url", "subscribe_url", "control_url", "events_url"):
            async with at.http.get(urls[name] + "/next") as answer:
                assert answer.status == 200


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [b"", b"[]", b"{", {"model_id": 3}, {"params": [1]}])
async def test_a_body_that_is_no_job_comes_first_with_400(body: Any) -> None:
    async with peer(capacity=0) as at:
        answer = await at.post("/live-video-to-video", payment="%", segment="%", body=body)
        assert answer.status == 400


@pytest.mark.asyncio
async def test_then_capacity_503_for_a_full_house_and_for_another_model() -> None:
    async with peer(capacity=0) as at:
        assert (await at.post("/live-video-to-video", payment="%", body=JOB)).status == 503
        await at.change(capacity=1)
        other = {**JOB, "model_id": "another"}
        assert (await at.post("/live-video-to-video", payment="%", body=other)).status == 503


@pytest.mark.asyncio
@pytest.mark.parametrize("header", ["%", "abc", base64.b64encode(b"\xff\xff").decode()])
async def test_then_an_unreadable_payment_402(header: str) -> None:
    async with peer() as at:
        answer = await at.post("/live-video-to-video", payment=header, segment="%", body=JOB)
        assert answer.status == 402
        assert (await at.audit())["rejected"] == 1


def warm() -> Capabilities:
    """A model that must be warm."""
    asked = Capabilities.FromString(capabilities(MODEL))
    asked.constraints.PerCapability[35].models[MODEL].warm = True
    return asked


def wrong_segments(at: Peer, info: OrchestratorInfo) -> dict[str, SegData]:
    foreign, expired = OrchestratorInfo(), OrchestratorInfo()
    foreign.auth_token.CopyFrom(AuthToken(token=bytes(32), session_id="s", expiration=2**40))
    expired.auth_token.CopyFrom(info.auth_token)
    expired.auth_token.expiration += 1
    sender = at.sender
    return {
        "signed by another": sender.segment(info, signer=STRANGER),
        "not signed": SegData(auth_token=info.auth_token, capabilities=info.capabilities),
        "a warm model": sender.segment(info, asked=warm()),
        "a capability not offered": sender.segment(info, asked=with_bit(36)),
        "another model": sender.segment(info, asked=Capabilities.FromString(capabilities("x"))),
        "another's token": sender.segment(foreign),
        "a changed token": sender.segment(expired),
        "no token": sender.segment(OrchestratorInfo()),
    }


@pytest.mark.asyncio
async def test_then_credentials_403_before_any_ticket_is_looked_at() -> None:
    async with peer(warm=False) as at:
        info = await at.info()
        bad_tickets = at.sender.payment(info, nonces=[1], signer=STRANGER)
        for what, segment in wrong_segments(at, info).items():
            assert (await at.start_with(bad_tickets, segment)).status == 403, what
            assert (await at.pay_with(at.sender.payment(info, 1), segment)).status == 403, what
        empty = await at.post("/live-video-to-video", segment=base64_of(at.sender.segment(info)), body=JOB)
        assert empty.status == 403
        assert (await at.post("/live-video-to-video", segment="%", body=JOB)).status == 403
        assert (await at.audit())["tickets"] == 0


@pytest.mark.asyncio
async def test_a_token_that_ran_out_is_403() -> None:
    wall = HandClock()
    async with peer(clock=ChainClock(now_ns=wall), token_life=190) as at:
        info = await at.info()
        wall.advance(190)
        assert (await at.start_with(at.sender.payment(info, 2), at.sender.segment(info))).status == 200
        wall.advance(0.001)
        answer = await at.start_with(at.sender.payment(info, 2), at.sender.segment(info))
        assert (answer.status, answer.text) == (403, "expired auth token\n")


@pytest.mark.asyncio
async def test_then_tickets_400_then_a_balance_under_one_ticket_400() -> None:
    async with peer() as at:
        info = await at.info()
        segment = at.sender.segment(info)
        forged = await at.start_with(at.sender.payment(info, nonces=[1], signer=STRANGER), segment)
        assert (forged.status, forged.text) == (400, "invalid ticket signature\n")
        without_tickets = Payment(sender=at.sender.account.raw_address, expected_price=info.price_info)
        for nothing in (at.sender.payment(info, 0), without_tickets):
            none = await at.start_with(nothing, segment)
            assert (none.status, none.text) == (400, "Insufficient balance\n")
        one = await at.start_with(at.sender.payment(info, 1), segment)
        assert one.status == 200


@pytest.mark.asyncio
async def test_a_payment_without_ticket_params_and_price_is_free() -> None:
    async with peer() as at:
        info = await at.info()
        empty = Payment(sender=at.sender.account.raw_address)
        answer = await at.start_with(empty, at.sender.segment(info))
        assert answer.status == 200
        urls = json.loads(answer.body)
        for seq in range(3):
            at.monotonic.advance(100)
            assert await at.segment_bytes(urls, seq) == 200
        assert (await at.audit())["debited_wei"] == "0"


@pytest.mark.asyncio
async def test_credentials_without_capabilities_are_taken() -> None:
    async with peer() as at:
        info = await at.info()
        segment = at.sender.segment(info, asked=Capabilities())
        assert (await at.start_with(at.sender.payment(info, 2), segment)).status == 200


@pytest.mark.asyncio
async def test_then_a_runner_that_refuses_500_and_everything_is_given_back() -> None:
    async with peer(capacity=1) as at:
        at.runner.status = 400
        info = await at.info()
        answer = await at.start_with(at.sender.payment(info, 2), at.sender.segment(info))
        assert answer.status == 500
        assert answer.text.startswith("live-video-to-video container returned 400")
        audit = await at.audit()
        assert audit["payments"] == 1
        (session,) = audit["sessions"].values()
        assert session["ended"]
        at.runner.status = 200
        await at.start(await at.info())


def test_a_runner_that_refuses_has_the_time_to_say_so_and_gateways_wait_for_it() -> None:
    refused_after = (START_TRIES - 1) * RunnerConfig().start_pause
    assert refused_after + 1 < running_jobs.START_TIMEOUT < client.START_TIMEOUT


@pytest.mark.asyncio
async def test_a_refused_start_gives_its_place_back() -> None:
    async with peer(capacity=1) as at:
        info = await at.info()
        for _ in range(3):
            assert (await at.post("/live-video-to-video", payment="%", body=JOB)).status == 402
            none = await at.start_with(at.sender.payment(info, 0), at.sender.segment(info))
            assert none.status == 400
        await at.start(info)
        assert (await at.post("/live-video-to-video", payment="%", body=JOB)).status == 503


async def gone(at: Peer, urls: dict[str, str]) -> bool:
    statuses = []
    for name in ("publish_url", "subscribe_url", "control_url", "events_url"):
        async with at.http.get(urls[name] + "/next") as answer:
            statuses.append(answer.status)
    return statuses == [404] * 4


@pytest.mark.asyncio
@pytest.mark.parametrize("closed", ["publish_url", "subscribe_url"])
async def test_a_stream_ends_when_publisher_or_runner_closes_its_channel(closed: str) -> None:
    async with peer(capacity=1) as at:
        urls = await at.start(await at.info())
        async with at.http.delete(urls[closed]) as answer:
            assert answer.status == 200
        assert await gone(at, urls)
        assert (await at.audit())["sessions"][urls["manifest_id"]]["ended"]
        await at.start(await at.info())


@pytest.mark.asyncio
async def test_a_stream_ends_when_nobody_listens_where_the_runner_was() -> None:
    async with peer() as at:
        urls = await at.start(await at.info())
        await at.runner.stop()
        async with asyncio.timeout(DEADLINE), at.http.get(urls["subscribe_url"] + "/0") as waiting:
            assert waiting.headers["Lp-Trickle-Closed"] == "terminated"
        assert await gone(at, urls)


@pytest.mark.asyncio
async def test_a_stream_ends_when_its_runner_was_started_again_and_the_new_ones_jobs_go_on() -> None:
    async with peer() as at:
        at.runner.instance = "first"
        lost = await at.start(await at.info())
        at.runner.instance = "second"
        kept = await at.start(await at.info())
        async with asyncio.timeout(DEADLINE), at.http.get(lost["subscribe_url"] + "/0") as waiting:
            assert waiting.headers["Lp-Trickle-Closed"] == "terminated"
        assert await gone(at, lost)
        assert not await gone(at, kept)


@pytest.mark.asyncio
async def test_stopping_lets_go_of_readers_that_wait() -> None:
    async with peer() as at:
        urls = await at.start(await at.info())

        async def read() -> int:
            async with at.http.get(urls["subscribe_url"] + "/0") as answer:
                assert answer.headers.get("Lp-Trickle-Closed") == "terminated"
                return answer.status

        async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
            reading = group.create_task(read())
            await asyncio.sleep(0.05)
            await at.orchestrator.stop()
        assert reading.result() == 200


@pytest.mark.asyncio
async def test_off_chain_a_start_takes_an_empty_payment_and_the_bare_token() -> None:
    async with peer(price_wei_per_second=None) as at:
        info = await at.info(signature=b"")
        segment = base64_of(SegData(auth_token=info.auth_token))
        answer = await at.post("/live-video-to-video", segment=segment, body=JOB)
        assert answer.status == 200
        urls = json.loads(answer.body)
        at.monotonic.advance(1000)
        assert await at.segment_bytes(urls, 0) == 200
        assert not await gone(at, urls)
        await at.post("/live-video-to-video", segment=segment, body=JOB)
        assert (await at.audit())["redelivered"] == 0
        refused = await at.post("/live-video-to-video", segment=base64_of(SegData()), body=JOB)
        assert refused.status == 403


@pytest.mark.asyncio
async def test_debits_follow_the_clock_and_a_stream_is_cut_off_when_its_credit_is_gone() -> None:
    async with peer(debit_interval=1.0) as at:
        urls = await at.start(await at.info(), tickets=5)
        mid = urls["manifest_id"]

        async def debited() -> int:
            return int((await at.audit())["sessions"][mid]["debited_wei"])

        at.monotonic.advance(0.5)
        await at.segment_bytes(urls, 0)
        assert await debited() == 0
        at.monotonic.advance(1)
        await at.segment_bytes(urls, 1)
        assert await debited() == 15 * WEI_PER_SECOND // 10
        at.monotonic.advance(3.5)
        await at.segment_bytes(urls, 2)
        assert await debited() == 5 * WEI_PER_SECOND
        assert int((await at.audit())["sessions"][mid]["min_balance_wei"]) >= 0
        at.monotonic.advance(1)
        await at.segment_bytes(urls, 3)
        session = (await at.audit())["sessions"][mid]
        assert session["ended"]
        assert int(session["min_balance_wei"]) < 0
        assert await gone(at, urls)


@pytest.mark.asyncio
async def test_the_debit_rate_is_how_fast_it_debits_against_what_was_agreed() -> None:
    async with peer() as at:
        urls = await at.start(await at.info(), tickets=10)
        assert await at.change(debit_rate="1.2") == 204
        at.monotonic.advance(5)
        await at.segment_bytes(urls, 0)
        assert int((await at.audit())["debited_wei"]) == 6 * WEI_PER_SECOND


@pytest.mark.asyncio
async def test_debits_are_at_the_price_of_the_first_payment() -> None:
    async with peer() as at:
        urls = await at.start(await at.info(), tickets=10)
        await at.change(price_wei_per_second=str(2 * WEI_PER_SECOND))
        at.monotonic.advance(2)
        await at.segment_bytes(urls, 0)
        assert int((await at.audit())["debited_wei"]) == 2 * WEI_PER_SECOND


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "change", [[], {"debit_rate": "-1"}, {"price_wei_per_second": "1/0"}, {"capacity": "many"}]
)
async def test_a_tariff_that_is_none_is_refused(change: Any) -> None:
    async with peer() as at:
        async with at.http.patch(at.orchestrator.where.url + "/devnet/tariff", json=change) as answer:
            assert answer.status == 400
        assert (await at.info()).price_info.pricePerUnit == 976562500
        assert MODEL in (await at.info()).capabilities.constraints.PerCapability[35].models


def with_bit(bit: int) -> Capabilities:
    """What a gateway asks for, and one capability more."""
    asked = Capabilities.FromString(capabilities(MODEL))
    asked.bitstring[0] |= 1 << bit
    return asked


@pytest.mark.asyncio
async def test_credentials_without_a_bitstring_are_taken_as_the_python_sdk_makes_them() -> None:
    async with peer() as at:
        info = await at.info()
        asked = Capabilities.FromString(capabilities(MODEL))
        asked.ClearField("bitstring")
        assert asked.capacities[35] == 1
        answer = await at.start_with(at.sender.payment(info, 1), at.sender.segment(info, asked=asked))
        assert answer.status == 200
