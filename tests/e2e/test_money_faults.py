"""A devnet that raises its price, debits too fast or cannot be paid: how each of it goes on or ends."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.devnet.signer import SignerConfig, serve
from harness.devnet import devnet_process
from harness.gateway import GatewayProcess, gateway_process
from harness.ledger import credited, session_reasons, verify
from harness.waiting import eventually
from harness.webrtc import WhepViewer, WhipPublisher
from tests.e2e.test_loop import NOTHING_WRONG, clean_audits, ended, stream_for

pytestmark = pytest.mark.long


async def change(http: aiohttp.ClientSession, orchestrator: dict[str, Any], **tariff: Any) -> None:
    async with http.patch(f"{orchestrator['url']}/devnet/tariff", json=tariff, ssl=False) as response:
        assert response.status == 204


async def paying(gateway: GatewayProcess) -> dict[str, Any]:
    """The orchestrator that is paid now."""
    url = (await gateway.status("cam"))["orchestrator"]["url"]
    return dict(next(o for o in (await gateway.devnet())["orchestrators"] if o["url"] == url))


async def paid_on_after_a_rise(gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
    """A stream whose orchestrator doubles its price is paid at the first price, by the same job."""
    async with (
        WhepViewer(http, gateway.live("cam/whep")) as viewer,
        WhipPublisher(http, gateway.live("cam/whip")) as publisher,
    ):
        await eventually(lambda: viewer.shows_negative, what="the changed picture")
        paid = (await gateway.status("cam"))["payments"]["accepted"]
        await change(http, await paying(gateway), price_wei_per_second="2000000000000000")

        async def pays_on() -> bool:
            return bool((await gateway.status("cam"))["payments"]["accepted"] > paid + 5)

        await eventually(pays_on, deadline=40, what="payments at the first price")
        await publisher.stop()
        status = await ended(gateway, "cam")
    assert (status["ended"]["reason"], status["swaps"]) == ("deleted", 0)
    assert status["orchestrator"]["price_wei_per_second"] == "1" + 15 * "0"


@pytest.mark.asyncio
async def test_a_price_that_drifts_up_is_held_at_the_first(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    flags = ("-livePaymentInterval", "200ms", "-ledger", str(ledger))
    async with gateway_process(tmp_path, *flags) as gateway:
        await paid_on_after_a_rise(gateway, http)
        total = await clean_audits(gateway)
    assert credited(ledger) == total
    await verify(ledger)


@pytest.mark.asyncio
async def test_without_a_fixed_price_the_former_params_are_paid_on(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    flags = ("-livePaymentInterval", "200ms", "-release", "0.8", "-ledger", str(ledger))
    async with gateway_process(tmp_path, *flags) as gateway:
        await paid_on_after_a_rise(gateway, http)
        (audit,) = await gateway.audits()
    assert audit["rejected"] == audit["duplicate_nonces"] == 0
    assert audit["stale_params"] > 0
    assert credited(ledger) == int(audit["credited_wei"])
    await verify(ledger)


@pytest.mark.asyncio
async def test_tickets_that_grow_a_thousandfold_in_an_answer_are_not_paid(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    flags = ("-hostile", "large_tickets", "-orchestrators", "1", "-livePaymentInterval", "500ms")
    async with gateway_process(tmp_path, *flags, "-ledger", str(ledger)) as gateway:
        began = time.monotonic()
        await stream_for(5, gateway, http)
        seconds = time.monotonic() - began
        status = await gateway.status("cam")
        assert (status["ended"]["reason"], status["swaps"]) == ("deleted", 0)
        assert status["payments"]["accepted"] > 2
        assert credited(ledger) <= (60 + seconds + 2) * 10**15
    await verify(ledger)


@pytest.mark.asyncio
async def test_an_orchestrator_that_debits_a_fifth_too_fast_is_replaced_when_it_closes_the_stream(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    flags = (
        *("-debitRate", "1.2", "-debitInterval", "200ms"),
        *("-orchestrators", "2", "-prices", "1000000000000000"),
        *("-preload", "3s", "-livePaymentInterval", "200ms", "-ledger", str(ledger)),
    )
    async with gateway_process(tmp_path, *flags) as gateway:
        async with (
            WhepViewer(http, gateway.live("cam/whep")) as viewer,
            WhipPublisher(http, gateway.live("cam/whip")) as publisher,
        ):
            await eventually(lambda: viewer.shows_negative, what="the changed picture")
            first = await paying(gateway)

            async def elsewhere() -> bool:  # 3 s of credit last 15 s at a fifth too much
                now = await gateway.status("cam")
                return now["swaps"] == 1 and now["orchestrator"]["url"] != first["url"]

            await eventually(elsewhere, deadline=80, what="the swap")
            seen = viewer.frames
            await eventually(lambda: viewer.frames > seen + 30, what="the picture after the swap")
            await publisher.stop()
            status = await ended(gateway, "cam")
        assert status["ended"]["reason"] == "deleted"
        assert "of credit left by our estimate" in status["error"]["error_message"]
        assert (await gateway.signer_audit())["null_states"] == 2
        audits = await gateway.audits()
    for audit in audits:
        assert {key: audit[key] for key in NOTHING_WRONG} == NOTHING_WRONG
    assert credited(ledger) == sum(int(audit["credited_wei"]) for audit in audits)
    assert (await verify(ledger))["sessions"] == 2
    assert session_reasons(ledger) == ["orchestrator_lost", "deleted"]


@pytest.mark.asyncio
async def test_a_signer_with_low_limits_ends_the_stream_and_says_so(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    signer = await serve(SignerConfig(key=secrets.token_bytes(32), max_ticket_ev=3 * 10**12))
    try:
        async with (
            devnet_process(tmp_path) as devnet,
            gateway_process(
                tmp_path,
                *("-remoteSignerUrl", signer.url, "-orchAddr", devnet["orchestrators"][0]["addr"]),
                *("-maxPricePerUnit", "0.001ETH", "-ledger", str(ledger)),
                devnet=False,
            ) as gateway,
        ):
            async with WhipPublisher(http, gateway.live("cam/whip")):
                status = await ended(gateway, "cam")
            assert status["ended"]["reason"] == "payment_refused"
            assert "400" in status["ended"]["detail"]
            audit = await gateway.fetch(devnet["orchestrators"][0]["audit_url"])
            assert audit["payments"] == 0
    finally:
        await signer.stop()
    assert (await verify(ledger))["credited_wei"] == "0"
