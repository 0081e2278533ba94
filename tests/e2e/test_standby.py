"""Streams with a standby job: both jobs are paid, and a swap takes viewers a fraction of a second."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from harness.devnet import EQUAL_PRICES
from harness.gateway import GatewayProcess, gateway_process
from harness.ledger import credited, session_reasons
from harness.waiting import SLACK, eventually
from harness.webrtc import Refused, WhepViewer, WhipPublisher, longest_gap
from tests.e2e.test_loop import ended
from tests.e2e.test_swap import in_use, shows_grey

FLAGS = (*EQUAL_PRICES, "-livePaymentInterval", "1s")
SWITCH = 0.3
"""Seconds without the effect, at most, where a standby takes over."""


async def standby_ready(gateway: GatewayProcess, swaps: int = 0) -> dict[str, Any]:
    """The stream's status once its job works and another one is ready to take over."""

    async def ready() -> dict[str, Any] | None:
        status = await gateway.status("cam")
        there = status["standby"] is not None and status["standby"]["state"] == "ready"
        return status if there and status["swaps"] == swaps and status["state"] == "live" else None

    return dict(await eventually(ready, every=0.02, what="a job that stands by"))


@pytest.mark.asyncio
async def test_a_swap_to_the_standby_is_a_switch_and_a_new_standby_starts(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    flags = (*FLAGS, "-orchestrators", "4", "-standby", "-ledger", str(ledger))
    async with (
        gateway_process(tmp_path, *flags) as gateway,
        WhepViewer(http, gateway.live("cam/whep")) as viewer,
        WhipPublisher(http, gateway.live("cam/whip")) as publisher,
    ):
        await eventually(lambda: viewer.shows_negative and viewer.frames > 30, what="the changed picture")
        status = await standby_ready(gateway)
        first, second = status["orchestrator"]["url"], status["standby"]["orchestrator"]["url"]
        assert first != second
        used = [first]
        assert status["standby"]["payments"]["accepted"] >= 1
        assert (await gateway.signer_audit())["null_states"] == 2, "each job has its own"
        async with http.post(gateway.live("cam/update"), json={"effect": "grey"}) as response:
            assert response.status == 200
        await eventually(lambda: shows_grey(viewer), what="the other effect")
        frames = viewer.frames
        await eventually(lambda: viewer.frames > frames + 45, what="the other effect at the standby")

        for swaps in (1, 2):
            before = time.monotonic()
            os.kill((await in_use(gateway))["pid"], signal.SIGKILL)
            status = await standby_ready(gateway, swaps)
            frames = len(viewer.originals)
            await eventually(
                lambda seen=frames: len(viewer.originals) > seen + 30,
                what="the picture from the next one, by the newest parameters",
            )
            gap = longest_gap(moment for moment in viewer.originals if moment > before - 0.1)
            assert gap < SLACK * SWITCH
            used.append(status["orchestrator"]["url"])
            assert status["standby"]["orchestrator"]["url"] != used[-1]
        assert used[1] == second
        switched = [line for line in gateway.log.read_text().splitlines() if "standby takes over" in line]
        assert all(f"url={url}" in line for url, line in zip(used[1:], switched, strict=True))
        assert all("ready=True" in line for line in switched)
        pts = list(viewer.pts)
        assert all(later > earlier for earlier, later in pairwise(pts))

        await publisher.stop()
        status = await ended(gateway, "cam")
        assert status["standby"]["state"] == "none"
        assert int(status["payments"]["credited_wei"]) == credited(ledger)
    assert sorted(map(str, session_reasons(ledger))) == [*["deleted"] * 2, *["orchestrator_lost"] * 2]


@pytest.mark.asyncio
async def test_a_standby_that_dies_is_replaced_without_a_gap(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with (
        gateway_process(tmp_path, *FLAGS, "-orchestrators", "3") as gateway,
        WhepViewer(http, gateway.live("cam/whep")) as viewer,
        WhipPublisher(http, gateway.live("cam/whip?standby=true")),
    ):
        await eventually(lambda: viewer.shows_negative, what="the changed picture")
        status = await standby_ready(gateway)
        lost = status["standby"]["orchestrator"]["url"]
        parts = (await gateway.devnet())["orchestrators"]
        os.kill(next(o["pid"] for o in parts if o["url"] == lost), signal.SIGKILL)

        async def replaced() -> bool:
            now = await standby_ready(gateway)
            return bool(now["standby"]["orchestrator"]["url"] != lost)

        await eventually(replaced, what="another standby")
        assert (await gateway.status("cam"))["orchestrator"]["url"] == status["orchestrator"]["url"]
        assert longest_gap(viewer.times) < SLACK * SWITCH


@pytest.mark.asyncio
async def test_a_stream_chooses_a_standby_which_needs_a_second_orchestrator(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with gateway_process(tmp_path, *FLAGS) as gateway:
        with pytest.raises(Refused) as refused:
            async with WhipPublisher(http, gateway.live("cam/whip?standby=perhaps")):
                pass
        assert (refused.value.status, refused.value.problem["code"]) == (400, "bad_parameter")
        async with WhipPublisher(http, gateway.live("cam/whip?standby=false")) as publisher:
            assert (await gateway.status("cam"))["standby"] is None
            await publisher.stop()
        await ended(gateway, "cam")
        async with WhipPublisher(http, gateway.live("cam/whip?standby=true")):

            async def nobody() -> bool:
                status = await gateway.status("cam")
                return bool(status["state"] == "live" and "no other" in status["standby"]["detail"])

            await eventually(nobody, what="the word that nobody else is there")
        assert (await gateway.signer_audit())["null_states"] <= 2
