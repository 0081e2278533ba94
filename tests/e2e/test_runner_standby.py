"""Streams whose second job stands by on a live runner: both sessions are paid, a swap is a switch."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import aiohttp
import pytest

from harness.devnet import EQUAL_PRICES
from harness.gateway import gateway_process
from harness.ledger import credited, verify
from harness.waiting import SLACK, eventually
from harness.webrtc import WhepViewer, WhipPublisher, longest_gap
from tests.e2e.test_loop import ended
from tests.e2e.test_standby import SWITCH, standby_ready


async def takes_over(dialect: str, tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """A stream whose runner is killed while another one stands by."""
    ledger = tmp_path / "ledger.sqlite3"
    network = ("-orchestrators", "0", "-runners", "3", "-dialect", dialect, *EQUAL_PRICES)
    async with (
        gateway_process(tmp_path, *network, "-standby", "-ledger", str(ledger)) as gateway,
        WhepViewer(http, gateway.live("cam/whep")) as viewer,
        WhipPublisher(http, gateway.live("cam/whip")) as publisher,
    ):
        await eventually(lambda: viewer.shows_negative and viewer.frames > 30, what="the changed picture")
        status = await standby_ready(gateway)
        first, second = status["orchestrator"], status["standby"]["orchestrator"]
        assert first["url"] != second["url"]
        assert (first["kind"], second["kind"]) == ("runner", "runner")
        assert status["standby"]["payments"]["accepted"] >= 1
        assert (await gateway.signer_audit())["null_states"] == 2, "each session has its own opening"
        runners = (await gateway.devnet())["runners"]
        victim = next(one for one in runners if first["url"].startswith(one["url"]))
        os.kill(victim["pid"], signal.SIGKILL)
        status = await standby_ready(gateway, 1)
        assert status["orchestrator"]["url"] == second["url"]
        frames = viewer.frames
        await eventually(lambda: viewer.frames > frames + 30, what="pictures from the other one")
        assert longest_gap(viewer.times) < SLACK * SWITCH
        await publisher.stop(resume=False)
        last = await ended(gateway, "cam")
        assert int(last["payments"]["credited_wei"]) == credited(ledger)
        for one in runners:
            if one is not victim:
                sessions = (await gateway.fetch(one["audit_url"]))["sessions"].values()
                assert all(session["ended"] for session in sessions)
    await verify(ledger)


@pytest.mark.asyncio
async def test_a_session_that_stands_by_takes_over_and_both_are_stopped_at_the_end(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    await takes_over("node", tmp_path, http)
