"""A devnet that raises its price, debits too fast or cannot be paid: how each of it goes on or ends."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.devnet.signer import SignerConfig, serve
from tests.clients.devnet import devnet_process
from tests.clients.gateway import GatewayProcess, eventually, gateway_process
from tests.clients.ledger import credited
from tests.clients.webrtc import WhepViewer, WhipPublisher
from tests.e2e.test_bad_network import verify
from tests.e2e.test_loop import ended

pytestmark = pytest.mark.long


async def change(http: aiohttp.ClientSession, orchestrator: dict[str, Any], **tariff: Any) -> None:
    async with http.patch(f"{orchestrator['url']}/devnet/tariff", json=tariff, ssl=False) as response:
        assert response.status == 204


async def paying(gateway: GatewayProcess) -> dict[str, Any]:
    """The orchestrator that is paid now."""
    url = (await gateway.status("cam"))["orchestrator"]["url"]
    return dict(next(o for o in (await gateway.devnet())["orchestrators"] if o["url"] == url))


@pytest.mark.asyncio
async def test_a_price_that_drifts_up_is_held_and_one_who_debits_too_fast_is_left(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    flags = ("-prices", "1000000000000000", "-preload", "6s", "-debitInterval", "200ms")
    async with gateway_process(
        tmp_path, *flags, "-livePaymentInterval", "200ms", "-ledger", str(ledger)
    ) as gateway:
        async with (
            WhepViewer(http, gateway.live("cam/whep")) as viewer,
            WhipPublisher(http, gateway.live("cam/whip")) as publisher,
        ):
            await eventually(lambda: viewer.shows_negative, what="the changed picture")
            first = await paying(gateway)
            paid = (await gateway.status("cam"))["payments"]["accepted"]
            await change(http, first, price_wei_per_second="2000000000000000")

            async def pays_on() -> bool:
                return bool((await gateway.status("cam"))["payments"]["accepted"] > paid + 10)

            await eventually(pays_on, deadline=40, what="payments at the first price")
            status = await gateway.status("cam")
            assert (status["swaps"], status["orchestrator"]["price_wei_per_second"]) == (0, "1" + 15 * "0")

            await change(http, first, price_wei_per_second="1000000000000000", debit_rate="5")

            async def elsewhere() -> bool:
                now = await gateway.status("cam")
                return now["swaps"] == 1 and now["orchestrator"]["url"] != first["url"]

            await eventually(elsewhere, deadline=40, what="the swap")
            seen = viewer.frames
            await eventually(lambda: viewer.frames > seen + 30, what="the picture after the swap")
            await publisher.stop()
            status = await ended(gateway, "cam")
        assert status["ended"]["reason"] == "deleted"
        assert status["error"]["error_message"]
        assert (await gateway.signer_audit())["null_states"] == 2
        total = sum([int(audit["credited_wei"]) for audit in await gateway.audits()])
    assert credited(ledger) == total
    assert (await verify(ledger))["sessions"] == 2


@pytest.mark.asyncio
async def test_a_signer_with_low_limits_ends_the_stream_and_says_so(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    signer = await serve(SignerConfig(key=secrets.token_bytes(32), max_ticket_ev=3 * 10**12))
    try:
        async with (
            devnet_process(tmp_path, "-orchestrators", "1") as devnet,
            gateway_process(
                tmp_path,
                *("-remoteSignerUrl", signer.url, "-orchAddr", devnet["orchestrators"][0]["addr"]),
                *("-maxPricePerUnit", "0.001ETH", "-ledger", str(ledger)),
                devnet=False,
            ) as gateway,
        ):
            async with WhipPublisher(http, gateway.live("cam/whip")):
                status = await ended(gateway, "cam")
            assert status["ended"]["reason"] in {"payment_refused", "no_orchestrator"}
            assert "400" in status["ended"]["detail"]
            audit = await gateway.fetch(devnet["orchestrators"][0]["audit_url"])
            assert audit["payments"] == 0
    finally:
        await signer.stop()
    assert (await verify(ledger))["credited_wei"] == "0"
