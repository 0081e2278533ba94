"""kill -9 of gateway, signer and orchestrator at any moment: the next start explains every session."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from tests.clients.devnet import devnet_process
from tests.clients.gateway import gateway_process
from tests.clients.webrtc import Refused, WhipPublisher
from tests.e2e.test_bad_network import verify

VICTIMS = ("gateway", "signer", "gateway", "orchestrator", "gateway")
LONGEST = 2.0
"""Seconds from the publisher's answer to the kill, at most."""


@pytest.mark.asyncio
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("rounds", [2, pytest.param(50, marks=pytest.mark.long)])
async def test_after_kill_9_at_any_moment_the_ledger_adds_up(
    rounds: int, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    chance = random.Random(rounds)
    for number in range(rounds):
        folder = tmp_path / str(number)
        folder.mkdir()
        await _round(chance, VICTIMS[number % len(VICTIMS)], folder, http)


async def _round(chance: random.Random, victim: str, folder: Path, http: aiohttp.ClientSession) -> None:
    ledger = folder / "ledger.sqlite3"
    async with devnet_process(folder, "-orchestrators", "1", "-preload", "10s") as devnet:
        flags = (
            *("-remoteSignerUrl", devnet["signer"], "-orchAddr", devnet["orchestrators"][0]["addr"]),
            *("-maxPricePerUnit", "0.001ETH", "-livePaymentInterval", "100ms", "-ledger", str(ledger)),
        )
        async with gateway_process(folder, *flags, devnet=False) as gateway:
            pids = {
                "gateway": gateway.pid,
                "signer": devnet["signer_pid"],
                "orchestrator": devnet["orchestrators"][0]["pid"],
            }
            with suppress(aiohttp.ClientError, Refused):
                async with WhipPublisher(http, gateway.live("cam/whip")):
                    await asyncio.sleep(chance.uniform(0, LONGEST))  # any moment will do
                    os.kill(pids[victim], signal.SIGKILL)
                    await asyncio.sleep(0.2)
            if victim == "gateway":
                await gateway.process.wait()
        if victim == "gateway":
            await _start_again(folder, flags)
        summary = await verify(ledger)
        assert summary["open_sessions"] == 0
        if victim != "orchestrator":
            url = devnet["orchestrators"][0]["audit_url"]
            async with http.get(url, ssl=False) as response:
                credited = int((await response.json())["credited_wei"])
            certain = int(summary["credited_wei"])
            assert certain <= credited <= certain + int(summary["uncertain_wei"])


async def _start_again(folder: Path, flags: tuple[str, ...]) -> None:
    """Start the gateway once more, which closes what the crash left open, and stop it."""
    async with gateway_process(folder, *flags, devnet=False) as gateway:
        assert await gateway.stop() == 0
