"""Spend and time limits with real streams on a devnet."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import aiohttp
import pytest

from harness.gateway import GatewayProcess, gateway_process
from harness.ledger import credited
from harness.waiting import SLACK, eventually
from harness.webrtc import Refused, WhepViewer, WhipPublisher
from tests.e2e.test_loop import clean_audits, ended


@pytest.mark.asyncio
async def test_a_stream_ends_at_its_limit_and_the_hourly_limit_outlasts_a_restart(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    flags = ("-livePaymentInterval", "200ms", "-ledger", str(ledger), "-maxSpendPerHour", "0.1ETH")
    async with gateway_process(tmp_path, *flags, "-maxSessionSpend", "0.064ETH") as gateway:
        async with (
            WhepViewer(http, gateway.live("cam/whep")) as viewer,
            WhipPublisher(http, gateway.live("cam/whip")),
        ):
            await eventually(lambda: viewer.shows_negative, what="the changed picture")
            status = await ended(gateway, "cam")
        assert status["ended"]["reason"] == "spend_limit"
        total = await clean_audits(gateway)
        assert 60 * 10**15 < total <= 64 * 10**15
        assert credited(ledger) == total
    async with gateway_process(tmp_path, *flags, wait_ready=False) as gateway:
        await gateway.listening()
        async with http.get(gateway.url + "readyz") as response:
            assert response.status == 503

        async def refused() -> str:
            try:
                async with WhipPublisher(http, gateway.live("cam/whip")):
                    raise AssertionError("a stream over the limit was let in")
            except Refused as refusal:
                return f"{refusal.status} {refusal.problem['code']} {refusal.problem['detail']}"

        # before the orchestrators have answered, nobody knows what it would cost
        said = await eventually(lambda: _unless(refused, "no_orchestrator"), what="the refusal for its cost")
        assert said.startswith("402 spend_limit")
        assert "last hour" in said
        assert (await gateway.signer_audit())["signings"] == 0


async def _unless(ask: object, unwanted: str) -> str:
    assert callable(ask)
    said = str(await ask())
    return "" if unwanted in said else said


@pytest.mark.asyncio
async def test_a_stream_ends_after_its_maximum_duration(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with gateway_process(tmp_path, "-maxStreamSeconds", "3") as gateway:
        async with WhipPublisher(http, gateway.live("cam/whip")):
            status = await ended(gateway, "cam")
        assert status["ended"]["reason"] == "time_limit"
        assert 3 <= status["elapsed_s"] < 3 + SLACK
        await clean_audits(gateway)


@pytest.mark.asyncio
async def test_who_comes_back_again_and_again_spends_no_more_than_its_budget(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("one maxStreams=1 maxSessionSpend=0.061ETH maxPublisherSpendPerHour=0.122ETH\nother\n")
    one, other = (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) for token in ("one", "other")
    )
    quick = ("-livePaymentInterval", "200ms")
    flags = ("-publishTokens", str(tokens), "-ledger", str(tmp_path / "ledger.sqlite3"), *quick)
    async with one, other:
        async with gateway_process(tmp_path, *flags) as gateway:
            for name in ("cam1", "cam2"):
                async with WhipPublisher(one, gateway.live(f"{name}/whip")):
                    await eventually(partial(_has_paid, gateway, name), what="a payment")
                await ended(gateway, name)
            await _is_over_its_budget(one, gateway)
        async with gateway_process(tmp_path, *flags) as gateway:
            await _is_over_its_budget(one, gateway)
            async with WhipPublisher(other, gateway.live("cam3/whip")):
                await eventually(partial(_has_paid, gateway, "cam3"), what="a payment of another publisher")


async def _is_over_its_budget(http: aiohttp.ClientSession, gateway: GatewayProcess) -> None:
    with pytest.raises(Refused) as refused:
        async with WhipPublisher(http, gateway.live("cam3/whip")):
            raise AssertionError("a stream over the budget was let in")
    assert (refused.value.status, refused.value.problem["code"]) == (402, "spend_limit")
    assert "this publisher's last hour" in refused.value.problem["detail"]


async def _has_paid(gateway: GatewayProcess, name: str) -> bool:
    payments = (await gateway.status(name))["payments"]
    return payments is not None and payments["accepted"] > 0
