"""A gateway that crashes or is restarted: publishers that come back go on with their paid jobs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from harness.devnet import devnet_process, network_flags
from harness.gateway import GatewayProcess, gateway_process
from harness.ledger import verify
from harness.waiting import DEADLINE, eventually
from harness.webrtc import WhepViewer, WhipPublisher

STREAMS = tuple(f"cam{number}" for number in range(6))


@asynccontextmanager
async def gateway_on(
    devnet: dict[str, Any], folder: Path, *flags: str, resume: str = "30s"
) -> AsyncIterator[GatewayProcess]:
    """A gateway on that network, with the ledger of all that are started in this folder."""
    ledger = ("-ledger", str(folder / "ledger.sqlite3"), "-resumeTimeout", resume)
    given = (*network_flags(devnet), *ledger, "-livePaymentInterval", "1s", *flags)
    async with gateway_process(folder, *given, devnet=False) as gateway:
        yield gateway


@asynccontextmanager
async def publishing(
    gateway: GatewayProcess, http: aiohttp.ClientSession, *names: str
) -> AsyncIterator[list[WhipPublisher]]:
    """Publishers of these streams, once the effect is shown on each; they leave without a word."""
    async with AsyncExitStack() as stack:
        publishers = [
            await stack.enter_async_context(WhipPublisher(http, gateway.live(f"{name}/whip")))
            for name in names
        ]
        for name in names:
            await shown(gateway, http, name)
        yield publishers


async def shown(gateway: GatewayProcess, http: aiohttp.ClientSession, name: str) -> None:
    async with WhepViewer(http, gateway.live(f"{name}/whep")) as viewer:
        await eventually(lambda: viewer.shows_negative, what=f"the picture of {name}")


async def fetch(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with http.get(url, ssl=False) as response:
        return dict(await response.json())


async def orchestrator_audit(http: aiohttp.ClientSession, devnet: dict[str, Any]) -> dict[str, Any]:
    return await fetch(http, devnet["orchestrators"][0]["audit_url"])


@pytest.mark.asyncio
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "restarted"])
async def test_six_streams_go_on_after_the_gateway_was(
    how: signal.Signals, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    async with devnet_process(tmp_path, "-capacity", "6") as devnet:
        async with gateway_on(devnet, tmp_path) as gateway, publishing(gateway, http, *STREAMS):
            before = {name: await gateway.status(name) for name in STREAMS}
            os.kill(gateway.pid, how)
            await asyncio.wait_for(gateway.process.wait(), DEADLINE)
        async with gateway_on(devnet, tmp_path) as gateway:
            for name in STREAMS:
                assert (await gateway.status(name))["state"] == "waiting_for_publisher"
            async with publishing(gateway, http, *STREAMS) as publishers:
                for name, former in before.items():
                    status = await gateway.status(name)
                    assert status["request_id"] == former["request_id"]
                    assert status["orchestrator"] == former["orchestrator"]
                    assert (status["state"], status["resumed"], status["swaps"]) == ("live", 1, 0)
                signer = await fetch(http, devnet["signer_audit_url"])
                assert signer["null_states"] == len(STREAMS)
                signed = signer["signings"]

                async def more_was_paid() -> bool:
                    now = await fetch(http, devnet["signer_audit_url"])
                    return int(now["signings"]) >= signed + len(STREAMS)

                await eventually(more_was_paid, what="the next payments")
                for publisher in publishers:
                    await publisher.stop(resume=False)
        summary = await verify(ledger)
        assert (summary["open_sessions"], summary["sessions"]) == (0, len(STREAMS))
        audit = await orchestrator_audit(http, devnet)
        credited, uncertain = int(summary["credited_wei"]), int(summary["uncertain_wei"])
        assert credited <= int(audit["credited_wei"]) <= credited + uncertain
