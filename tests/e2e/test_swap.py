"""Orchestrators that fail: another one takes over, publisher and viewers stay connected."""

from __future__ import annotations

import asyncio
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
from harness.ledger import session_reasons
from harness.waiting import SLACK, eventually
from harness.webrtc import WhepViewer, WhipPublisher, longest_gap
from tests.e2e.test_loop import ended

TWO = ("-orchestrators", "2", *EQUAL_PRICES)
SWAP = 2.0
"""Seconds without the effect, at most, where another orchestrator takes over."""


async def in_use(gateway: GatewayProcess, stream: str = "cam") -> dict[str, Any]:
    """The orchestrator that works for the stream, as the devnet describes it."""
    url = (await gateway.status(stream))["orchestrator"]["url"]
    return next(o for o in (await gateway.devnet())["orchestrators"] if o["url"] == url)


def shows_grey(viewer: WhepViewer) -> bool:
    """The pattern's left is bright, as it was published: not the negative that a job begins with."""
    return viewer.shows_original


@pytest.mark.asyncio
async def test_a_killed_orchestrator_is_replaced_within_two_seconds_and_clients_stay(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    async with (
        gateway_process(tmp_path, *TWO, "-ledger", str(ledger)) as gateway,
        WhepViewer(http, gateway.live("cam/whep"), audio=True) as viewer,
        WhipPublisher(http, gateway.live("cam/whip"), audio=True) as publisher,
    ):
        await eventually(lambda: viewer.shows_negative and viewer.frames > 30, what="the changed picture")
        async with http.post(gateway.live("cam/update"), json={"effect": "grey"}) as response:
            assert response.status == 200
        await eventually(lambda: shows_grey(viewer), what="the other effect")
        await eventually(lambda: viewer.sound > 20, what="the sound")
        first, before = await in_use(gateway), time.monotonic()
        os.kill(first["pid"], signal.SIGKILL)

        async def swapped() -> bool:
            status = await gateway.status("cam")
            return bool(status["swaps"] == 1 and status["state"] == "live")

        await eventually(swapped, every=0.01, what="the swap")
        frames = len(viewer.originals)
        await eventually(
            lambda: len(viewer.originals) > frames + 60,
            what="the second one's picture, by the newest parameters",
        )
        assert longest_gap(moment for moment in viewer.originals if moment > before - 0.1) < SLACK * SWAP
        heard = viewer.sound
        await eventually(lambda: viewer.sound > heard + 20, what="the sound from the second one")
        pts = list(viewer.pts)
        assert all(later > earlier for earlier, later in pairwise(pts))

        status = await gateway.status("cam")
        sound = status["ingest"]["audio"]
        assert (sound["codec"], sound["live"], sound["packets_dropped"]) == ("opus", True, 0)
        assert sound["packets"] > 40
        assert status["output"]["audio"]
        verdicts = {c["url"]: c["verdict"] for c in status["candidates"]}
        assert verdicts.pop(first["url"]) in {"set_aside", "unreachable"}
        assert list(verdicts.values()) == ["chosen"]
        assert status["payments"]["accepted"] >= 2, "the first payments of both"
        assert (await gateway.signer_audit())["null_states"] == 2
        await publisher.stop()
        await ended(gateway, "cam")
    assert session_reasons(ledger) == ["orchestrator_lost", "deleted"]


@pytest.mark.asyncio
async def test_a_hung_orchestrator_is_replaced_before_segments_pile_up(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with (
        gateway_process(tmp_path, *TWO) as gateway,
        WhepViewer(http, gateway.live("cam/whep")) as viewer,
        WhipPublisher(http, gateway.live("cam/whip")),
    ):
        await eventually(lambda: viewer.shows_negative, what="the changed picture")
        hung, before = await in_use(gateway), time.monotonic()
        os.kill(hung["pid"], signal.SIGSTOP)
        try:

            async def swapped() -> bool:
                status = await gateway.status("cam")
                return bool(status["swaps"] == 1 and status["state"] == "live")

            await eventually(swapped, what="the swap")
            frames = viewer.frames
            await eventually(lambda: viewer.frames > frames + 30, what="the picture from the second one")
        finally:
            os.kill(hung["pid"], signal.SIGCONT)
        assert "answered nothing" in (await gateway.status("cam"))["error"]["error_message"]
        assert longest_gap(moment for moment in viewer.negatives if moment > before - 0.1) < SLACK * SWAP


@pytest.mark.asyncio
@pytest.mark.parametrize("orchestrators", ["1", "2"])
async def test_a_hang_of_everybody_swaps_nothing(
    tmp_path: Path, http: aiohttp.ClientSession, orchestrators: str
) -> None:
    """With two it is taken for the gateway's own uplink; with one there is nobody else."""
    async with (
        gateway_process(tmp_path, "-orchestrators", orchestrators, *EQUAL_PRICES) as gateway,
        WhepViewer(http, gateway.live("cam/whep")) as viewer,
        WhipPublisher(http, gateway.live("cam/whip")),
    ):
        await eventually(lambda: viewer.shows_negative, what="the changed picture")
        pids = [one["pid"] for one in (await gateway.devnet())["orchestrators"]]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(4)  # a hang of 2.2 s was enough for a swap
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        frames = viewer.frames
        await eventually(lambda: viewer.frames > frames + 30, what="the picture's return")
        assert (await gateway.status("cam"))["swaps"] == 0
        assert (await gateway.signer_audit())["null_states"] == 1


@pytest.mark.long
@pytest.mark.asyncio
async def test_more_swaps_than_allowed_end_the_stream_with_the_first_cause(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    flags = (*EQUAL_PRICES, "-orchestrators", "3", "-maxSwaps", "1")
    async with gateway_process(tmp_path, *flags) as gateway, WhipPublisher(http, gateway.live("cam/whip")):
        for swaps in range(2):

            async def live(wanted: int = swaps) -> bool:
                status = await gateway.status("cam")
                return bool(status["swaps"] == wanted and status["state"] == "live")

            await eventually(live, what=f"swap {swaps}")
            os.kill((await in_use(gateway))["pid"], signal.SIGKILL)
        status = await ended(gateway, "cam")
        assert status["ended"]["reason"] == "swaps_exhausted"
        assert "orchestrator_lost" in status["ended"]["detail"]


@pytest.mark.long
@pytest.mark.asyncio
async def test_a_silent_worker_is_replaced_after_the_output_timeout(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    flags = (*TWO, "-liveOutSegmentTimeout", "2s")
    async with (
        gateway_process(tmp_path, *flags) as gateway,
        WhepViewer(http, gateway.live("cam/whep")) as viewer,
        WhipPublisher(http, gateway.live("cam/whip")),
    ):
        await eventually(lambda: viewer.shows_negative, what="the changed picture")
        runner = (await gateway.devnet())["runner_pid"]
        os.kill(runner, signal.SIGSTOP)

        async def noticed() -> bool:
            status = await gateway.status("cam")
            return bool(
                status["error"] and "while the publisher was sending" in status["error"]["error_message"]
            )

        try:
            await eventually(noticed, every=0.02, what="the silence to be noticed")
        finally:
            os.kill(runner, signal.SIGCONT)
        frames = viewer.frames
        await eventually(lambda: viewer.frames > frames + 30, what="the picture's return")
