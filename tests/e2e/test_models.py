"""Several models on one network: a publish chooses one, which is asked for, paid and started."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from harness.gateway import gateway_process
from harness.ledger import credited
from harness.waiting import eventually
from harness.webrtc import Refused, WhepViewer, WhipPublisher
from tests.e2e.test_loop import clean_audits, ended

PRICES = {"comfystream": 10**15, "noop": 3 * 10**15}
PRELOAD = 60


def ai_models(path: Path) -> Path:
    entry = {"pipeline": "live-video-to-video", "url": "", "warm": True}
    entries = [{**entry, "model_id": model, "price_per_unit": price} for model, price in PRICES.items()]
    path.write_text(json.dumps(entries))
    return path


@pytest.mark.asyncio
async def test_a_publish_names_the_second_model_which_is_chosen_started_and_paid_at_its_price(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    flags = ("-aiModels", str(ai_models(tmp_path / "aiModels.json")), "-ledger", str(ledger))
    async with gateway_process(tmp_path, *flags, "-livePaymentInterval", "1s") as gateway:
        with pytest.raises(Refused) as unknown:
            await WhipPublisher(http, gateway.live("cam/whip?pipeline=nobodys")).__aenter__()
        assert (unknown.value.status, unknown.value.problem["code"]) == (404, "unknown_model")
        assert unknown.value.problem["models"] == list(PRICES)

        async with (
            WhepViewer(http, gateway.live("cam/whep")) as viewer,
            WhipPublisher(http, gateway.live("cam/whip?pipeline=noop")) as publisher,
        ):
            await eventually(lambda: viewer.shows_negative, what="the changed picture")
            status = await gateway.status("cam")
            (candidate,) = status["candidates"]
            (orchestrator,) = (await gateway.devnet())["orchestrators"]
            assert (candidate["url"], candidate["verdict"]) == (orchestrator["url"], "chosen")
            assert status["orchestrator"]["price_wei_per_second"] == str(PRICES["noop"])
            (job,) = await gateway.fetch((await gateway.devnet())["runner"] + "/devnet/jobs")
            assert job["model_id"] == "noop"
            (other,) = (await gateway.get("orchestrators"))["other_models"]
            assert other["max_price_wei_per_second"] == str(PRICES["noop"])
            await asyncio.sleep(3)  # the stream's length, not a wait for something
            await publisher.stop()
            status = await ended(gateway, "cam")

        (audit,) = await gateway.audits()
        assert await clean_audits(gateway) == credited(ledger) == int(audit["credited_wei"])
        assert int(audit["credited_wei"]) >= PRELOAD * PRICES["noop"]
        assert int(status["payments"]["owed_wei"]) >= 3 * PRICES["noop"]
        # what the orchestrator debited is at the same price: all but the last second of the stream
        assert int(audit["debited_wei"]) > int(status["payments"]["owed_wei"]) - 3 * PRICES["noop"]
