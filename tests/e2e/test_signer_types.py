"""A signer that pays live runners only: jobs are passed over without blame, and streams go to runners."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from harness.devnet import devnet_process
from harness.gateway import gateway_process
from harness.waiting import eventually
from harness.webrtc import WhepViewer, WhipPublisher


@pytest.mark.asyncio
async def test_streams_go_to_live_runners_where_the_signer_pays_no_jobs(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    (tmp_path / "jobs").mkdir()
    runners_only = ("-orchestrators", "0", "-runners", "1", "-dialect", "node")
    async with (
        devnet_process(tmp_path / "jobs") as jobs,
        devnet_process(tmp_path, *runners_only) as runners,
    ):
        (orchestrator,), (runner,) = jobs["orchestrators"], runners["runners"]
        flags = (
            *("-remoteSignerUrl", runners["signer"], "-maxPricePerUnit", "0.001ETH"),
            *("-orchAddr", f"{orchestrator['addr']},{runner['url']}"),
            *("-app", f"comfystream={runner['app']}"),
        )
        async with gateway_process(tmp_path, *flags, devnet=False) as gateway:

            async def refused() -> bool:
                listed = (await gateway.get("orchestrators"))["orchestrators"]
                return {"signer_refuses_type"} <= {one["verdict"] for one in listed}

            await eventually(refused, what="the verdict")
            async with (
                WhepViewer(http, gateway.live("cam/whep")) as viewer,
                WhipPublisher(http, gateway.live("cam/whip")),
            ):
                await eventually(lambda: viewer.shows_negative, what="the changed picture")
                assert (await gateway.status("cam"))["orchestrator"]["kind"] == "runner"
            ready = await gateway.get("readyz")
            assert ready["status"] == "ready"
            assert [note.startswith("the signer makes no payments") for note in ready["notes"]] == [True]
            listed = (await gateway.get("orchestrators"))["orchestrators"]
            assert not any(one["set_aside"] for one in listed), "nobody is blamed"
            lines = gateway.log.read_text().splitlines()
            assert len([line for line in lines if "] the signer makes no payments" in line]) == 1
