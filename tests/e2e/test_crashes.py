"""kill -9 of gateway, signer and orchestrator at random moments: the ledger explains what was paid."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from harness.devnet import devnet_process
from harness.gateway import gateway_process
from harness.ledger import left_open, verify
from harness.waiting import eventually
from harness.webrtc import Refused, WhipPublisher

VICTIMS = ("gateway", "signer", "gateway", "gateway", "orchestrator")
"""Rounds on one devnet, which starts again what died; the orchestrator goes last, and its audit with it."""
LONGEST = 2.0
"""Seconds from the publisher's answer to the kill, at most."""


@pytest.mark.asyncio
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("devnets", [1, pytest.param(10, marks=pytest.mark.long)])
async def test_after_kill_9_at_any_moment_the_ledger_adds_up(
    devnets: int, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    chance = random.Random(devnets)
    for number in range(devnets):
        folder = tmp_path / str(number)
        folder.mkdir()
        flags = ("-preload", "10s", "-restart")
        async with devnet_process(folder, *flags) as devnet:
            await _rounds(chance, devnet, folder, http)


async def _rounds(
    chance: random.Random, devnet: dict[str, Any], folder: Path, http: aiohttp.ClientSession
) -> None:
    """One gateway after the other on one ledger: each decides on what the crash before it left open."""
    orchestrator, ledger = devnet["orchestrators"][0], folder / "ledger.sqlite3"
    pids = {"signer": devnet["signer_pid"], "orchestrator": orchestrator["pid"]}
    flags = (
        *("-remoteSignerUrl", devnet["signer"], "-orchAddr", orchestrator["addr"]),
        *("-maxPricePerUnit", "0.001ETH", "-livePaymentInterval", "100ms", "-ledger", str(ledger)),
    )

    async def audit(url: str) -> dict[str, Any]:
        with suppress(aiohttp.ClientError):
            async with http.get(url, ssl=False) as response:
                return dict(await response.json())
        return {}

    killed = 0
    for number, victim in enumerate(VICTIMS):
        await eventually(lambda: audit(devnet["signer_audit_url"]), what="the signer")
        async with gateway_process(folder, *flags, devnet=False) as gateway:
            if number:
                summary = await verify(ledger)
                assert left_open(ledger) == 0
                credited, certain = await audit(orchestrator["audit_url"]), int(summary["credited_wei"])
                assert certain <= int(credited["credited_wei"]) <= certain + int(summary["uncertain_wei"])
            with suppress(aiohttp.ClientError, Refused):
                async with WhipPublisher(http, gateway.live("cam/whip")):
                    await asyncio.sleep(chance.uniform(0, LONGEST))  # any moment will do
                    os.kill(pids.get(victim, gateway.pid), signal.SIGKILL)
                    killed += 1
                    await asyncio.sleep(0.2)
    assert killed == len(VICTIMS), "a round without its kill shows nothing"
    summary = await verify(ledger)
    assert left_open(ledger) == 0
    assert int(summary["credited_wei"]) > 0
