"""A gateway that crashes or is restarted with streams on live runners: their sessions go on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from harness.devnet import devnet_process
from harness.gateway import GatewayProcess, gateway_process
from harness.ledger import verify
from harness.waiting import DEADLINE, eventually
from harness.webrtc import WhipPublisher
from tests.e2e.test_crash_resume import fetch, publishing

STREAMS = ("cam0", "cam1")
TICKETS = ("-ticketSeconds", "40")
"""So large that the opening outlasts the start of a gateway on a busy machine."""
TICKETS_LAST = 60.0
"""Seconds, at most, from a restart to the next payments: the openings' tickets are used up first."""


@asynccontextmanager
async def gateway_on(devnet: dict[str, Any], folder: Path) -> AsyncIterator[GatewayProcess]:
    """A gateway on that devnet's live runners, with the ledger of all that are started in this folder."""
    runners = devnet["runners"]
    flags = ("-remoteSignerUrl", devnet["signer"], "-maxPricePerUnit", "0.001ETH", "-resumeTimeout", "40s")
    where = ("-orchAddr", ",".join(one["url"] for one in runners), "-app", runners[0]["app"])
    ledger = ("-ledger", str(folder / "ledger.sqlite3"))
    async with gateway_process(folder, *flags, *where, *ledger, devnet=False) as gateway:
        yield gateway


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("network", "how"),
    [
        pytest.param(("-dialect", "go", "-appStart", "messages"), signal.SIGKILL, id="messages-killed"),
        pytest.param(("-dialect", "node"), signal.SIGTERM, id="node-restarted"),
        pytest.param(("-dialect", "go"), signal.SIGKILL, id="go-killed", marks=pytest.mark.long),
    ],
)
async def test_sessions_go_on_without_a_second_opening(
    network: tuple[str, ...], how: signal.Signals, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    flags = ("-orchestrators", "0", "-runners", "2", *network, *TICKETS)
    async with devnet_process(tmp_path, *flags) as devnet:
        async with gateway_on(devnet, tmp_path) as gateway, publishing(gateway, http, *STREAMS):
            for name in STREAMS:
                async with http.post(gateway.live(f"{name}/update"), json={"mode": "invert"}) as response:
                    assert response.status == 200
            before = {name: await gateway.status(name) for name in STREAMS}
            assert ledger.stat().st_mode & 0o077 == 0, "it holds the sessions' URLs"
            os.kill(gateway.pid, how)
            await asyncio.wait_for(gateway.process.wait(), DEADLINE)
        async with gateway_on(devnet, tmp_path) as gateway:
            for name in STREAMS:
                assert (await gateway.status(name))["state"] == "waiting_for_publisher"
            signed = (await fetch(http, devnet["signer_audit_url"]))["signings"]
            async with publishing(gateway, http, *STREAMS) as publishers:
                await still_the_same(gateway, before)
                # an app that is started by messages takes them from another process: nothing is done again
                for name in STREAMS:
                    async with http.post(gateway.live(f"{name}/update"), json={"mode": "gray"}) as response:
                        assert response.status == 200

                async def more_was_paid() -> bool:
                    now = await fetch(http, devnet["signer_audit_url"])
                    return int(now["signings"]) >= signed + len(STREAMS)

                await eventually(more_was_paid, what="the next payments", deadline=TICKETS_LAST)
                await stop(publishers)
        signer = await fetch(http, devnet["signer_audit_url"])
        assert (signer["null_states"], signer["stale_states"]) == (len(STREAMS), 0), "no second opening"
        audits = [await fetch(http, one["audit_url"]) for one in devnet["runners"]]
        assert [(one["rejected"], one["duplicate_nonces"]) for one in audits] == [(0, 0)] * 2
        sessions = [session for one in audits for session in one["sessions"].values()]
        assert [session["ended"] for session in sessions] == [True] * len(STREAMS)
        summary = await verify(ledger)
        assert (summary["open_sessions"], summary["sessions"]) == (0, len(STREAMS))
        paid, credited = sum(int(one["credited_wei"]) for one in audits), int(summary["credited_wei"])
        assert credited <= paid <= credited + int(summary["uncertain_wei"])


async def still_the_same(gateway: GatewayProcess, before: dict[str, dict[str, Any]]) -> None:
    for name, former in before.items():
        status = await gateway.status(name)
        assert status["request_id"] == former["request_id"]
        assert status["orchestrator"] == former["orchestrator"]
        assert (status["state"], status["resumed"], status["swaps"]) == ("live", 1, 0)


async def stop(publishers: list[WhipPublisher]) -> None:
    for publisher in publishers:
        await publisher.stop(resume=False)
