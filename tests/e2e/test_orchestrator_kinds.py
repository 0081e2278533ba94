"""Orchestrators as they are set up on the network: two wallets, adjusted prices, an older release."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from harness.gateway import gateway_process
from harness.ledger import credited
from tests.e2e.test_loop import clean_audits, stream_for

CEILING = ("-maxPricePerUnit", "0.0011ETH")
INTERVAL = ("-livePaymentInterval", "1s")


@pytest.mark.asyncio
async def test_a_stream_is_paid_at_an_older_release_with_two_wallets_and_an_adjusted_price(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    kind = ("-orchestrators", "1", "-release", "0.8", "-hotCold", "-autoAdjustPrice")
    async with gateway_process(tmp_path, *kind, *CEILING, *INTERVAL, "-ledger", str(ledger)) as gateway:
        (orchestrator,) = (await gateway.devnet())["orchestrators"]
        assert orchestrator["recipient"] != orchestrator["address"]
        _, viewer = await stream_for(5, gateway, http)
        assert viewer.frames >= 75
        status = await gateway.status("cam")
        assert status["ended"]["reason"] == "deleted"
        assert status["orchestrator"]["price_wei_per_second"] == "1009999999991808"
        assert status["payments"]["accepted"] >= 4
        total = await clean_audits(gateway)
        assert credited(ledger) == total > 0


@pytest.mark.asyncio
async def test_a_cold_model_is_used(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    cold = tmp_path / "aiModels.json"
    cold.write_text(
        '[{"pipeline": "live-video-to-video", "model_id": "comfystream", "warm": false,'
        ' "price_per_unit": 1000000000000000}]'
    )
    async with gateway_process(tmp_path, "-aiModels", str(cold), "-orchestrators", "1") as gateway:
        (listed,) = (await gateway.get("orchestrators"))["orchestrators"]
        assert listed["warm"] is False
        await stream_for(1, gateway, http)
        assert await clean_audits(gateway) > 0
