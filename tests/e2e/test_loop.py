"""The whole loop: publisher, daemon, devnet, viewer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from harness.gateway import GatewayProcess, gateway_process
from harness.ledger import credited
from harness.waiting import eventually
from harness.webrtc import WhepViewer, WhipPublisher

NOTHING_WRONG = {
    "rejected": 0,
    "redelivered": 0,
    "duplicate_nonces": 0,
    "stale_params": 0,
}
HUNDRED_ETH_PER_SECOND = "100000000000000000000"


async def stream_for(
    seconds: float, gateway: GatewayProcess, http: aiohttp.ClientSession, name: str = "cam"
) -> tuple[WhipPublisher, WhepViewer]:
    """Publish, watch for some seconds, stop, and wait for the end."""
    async with (
        WhepViewer(http, gateway.live(f"{name}/whep")) as viewer,
        WhipPublisher(http, gateway.live(f"{name}/whip")) as publisher,
    ):
        await eventually(lambda: viewer.shows_negative, what="the changed picture")
        await asyncio.sleep(seconds)  # the stream's length, not a wait for something
        await publisher.stop()
        await ended(gateway, name)
    return publisher, viewer


async def ended(gateway: GatewayProcess, name: str, *, deadline: float = 20.0) -> dict[str, Any]:
    async def status() -> dict[str, Any] | None:
        now = await gateway.status(name)
        return now if now["state"] == "ended" else None

    return dict(await eventually(status, deadline=deadline, what=f"the end of {name}"))


async def clean_audits(gateway: GatewayProcess) -> int:
    """Check every audit for faults and give the wei that all orchestrators credited."""
    total = 0
    for audit in await gateway.audits():
        assert {key: audit[key] for key in NOTHING_WRONG} == NOTHING_WRONG
        assert int(audit["min_balance_wei"]) >= 0
        total += int(audit["credited_wei"])
    signer = await gateway.signer_audit()
    assert (signer["stale_states"], signer["overlapping"]) == (0, 0)
    return total


@pytest.mark.asyncio
async def test_a_stream_of_twenty_seconds_is_shown_and_paid_to_the_wei(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with asyncio.TaskGroup() as both:
        for preload in ("60s", "8s"):
            folder = tmp_path / preload
            folder.mkdir()
            both.create_task(_seen_and_paid(preload, folder, http))


async def _seen_and_paid(preload: str, folder: Path, http: aiohttp.ClientSession) -> None:
    ledger = folder / "ledger.sqlite3"
    flags = ("-livePaymentInterval", "1s", "-preload", preload, "-ledger", str(ledger))
    async with gateway_process(folder, *flags) as gateway:
        _, viewer = await stream_for(20, gateway, http)
        assert "web3" not in (await gateway.get("debug/state"))["modules"], "no chain was asked for"
        status = await gateway.status("cam")
        total = await clean_audits(gateway)
        signer = await gateway.signer_audit()

        assert viewer.frames >= 300
        assert list(viewer.pts) == sorted(set(viewer.pts))
        assert signer["null_states"] == 1
        assert status["ended"]["reason"] == "deleted"
        assert status["payments"]["accepted"] >= 15
        assert int(status["payments"]["credited_wei"]) == total
        owed = int(status["payments"]["owed_wei"])
        assert owed > 19 * 10**15
        # below the preload by an interval and what a delivery may take, above it by two tickets
        assert -5 * 10**15 < total - owed - int(preload[:-1]) * 10**15 <= 2 * 10**15
        assert credited(ledger) == total


@pytest.mark.asyncio
async def test_a_hundred_eth_are_recorded_to_the_wei(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    flags = ("-prices", HUNDRED_ETH_PER_SECOND, "-maxPricePerUnit", "100ETH", "-ledger", str(ledger))
    async with gateway_process(tmp_path, *flags, "-livePaymentInterval", "1s") as gateway:
        await stream_for(3, gateway, http)
        total = await clean_audits(gateway)
        assert total >= 60 * 10**20
        assert credited(ledger) == total
        assert int((await gateway.status("cam"))["payments"]["credited_wei"]) == total


@pytest.mark.asyncio
async def test_a_post_without_media_costs_nothing(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with gateway_process(tmp_path, "-ingestTimeout", "1s") as gateway:
        publisher = WhipPublisher(http, gateway.live("cam/whip"))
        publisher.track.paused.set()
        async with publisher:
            status = await ended(gateway, "cam")
        assert status["ended"]["reason"] == "ingest_timeout"
        assert status["payments"] is None
        signer = await gateway.signer_audit()
        assert (signer["signings"], signer["null_states"]) == (0, 0)


@pytest.mark.asyncio
async def test_the_runner_gets_the_very_nal_units_that_were_published(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with gateway_process(tmp_path) as gateway:
        publisher, _ = await stream_for(3, gateway, http)
        jobs = await gateway.fetch((await gateway.devnet())["runner"] + "/devnet/jobs")
        received = jobs[0]["vcl_sha256"]
        assert len(received) > 60
        first = publisher.track.hashes.index(received[0])
        assert received == publisher.track.hashes[first : first + len(received)]
