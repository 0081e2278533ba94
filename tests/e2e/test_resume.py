"""Publishers that leave and come back within `-resumeTimeout`: the paid job goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from harness.gateway import GatewayProcess, gateway_process
from harness.ledger import session_reasons, verify
from harness.waiting import SLACK, eventually
from harness.webrtc import WhepViewer, WhipPublisher, encoded_pattern
from tests.e2e.test_loop import clean_audits, ended

BACK = 1.0
"""Seconds from a publisher's return to its first picture back, at most."""


async def in_state(gateway: GatewayProcess, state: str, *, resumed: int | None = None) -> dict[str, Any]:
    async def reached() -> dict[str, Any] | None:
        status = await gateway.status("cam")
        return status if status["state"] == state and resumed in (None, status["resumed"]) else None

    return dict(await eventually(reached, every=0.05, what=f"the state {state}"))


async def shows_more(viewer: WhepViewer) -> None:
    before = viewer.frames
    await eventually(
        lambda: viewer.frames > before + 5 and viewer.shows_negative, every=0.02, what="pictures"
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("holding") / "ledger.sqlite3"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(ledger: Path) -> AsyncIterator[GatewayProcess]:
    """One for the first tests: their streams `cam` follow one another."""
    held = ("-resumeTimeout", "10s", "-livePaymentInterval", "1s", "-ingestTimeout", "30s")
    async with gateway_process(ledger.parent, *held, "-ledger", str(ledger)) as gateway:
        yield gateway


async def openings(gateway: GatewayProcess) -> int:
    return int((await gateway.signer_audit())["null_states"])


@pytest.mark.asyncio(loop_scope="module")
async def test_ten_reloads_cost_one_preload(gateway: GatewayProcess, ledger: Path) -> None:
    opened, closed = await openings(gateway), len(session_reasons(ledger))
    async with WhepViewer(gateway.http, gateway.live("cam/whep")) as viewer:
        first: dict[str, Any] = {}
        waits = []
        for reloads in range(11):
            came = time.monotonic()
            async with WhipPublisher(gateway.http, gateway.live("cam/whip")) as publisher:
                status = await in_state(gateway, "live", resumed=reloads)
                first = first or status
                await shows_more(viewer)
                waits.append(time.monotonic() - came)
                assert status["request_id"] == first["request_id"]
                assert status["orchestrator"] == first["orchestrator"]
                if reloads < 10:
                    await publisher.stop()
                    await in_state(gateway, "waiting_for_publisher")
                else:
                    await publisher.stop(resume=False)
        assert min(waits[1:]) < SLACK * BACK, waits
        assert (await ended(gateway, "cam"))["ended"]["reason"] == "deleted"
        assert await openings(gateway) == opened + 1
        await clean_audits(gateway)
        assert all(later > earlier for earlier, later in pairwise(viewer.pts))
    await gateway.given_back()
    assert session_reasons(ledger)[closed:] == ["deleted"]
    await verify(ledger)


@pytest.mark.asyncio(loop_scope="module")
async def test_an_encoder_that_restarts_with_other_settings_goes_on_and_nothing_is_signed_meanwhile(
    gateway: GatewayProcess,
) -> None:
    http, opened = gateway.http, await openings(gateway)
    async with WhepViewer(http, gateway.live("cam/whep"), audio=True) as viewer:
        async with WhipPublisher(http, gateway.live("cam/whip"), audio=True) as publisher:
            await shows_more(viewer)
            await eventually(lambda: viewer.sound > 20, what="the sound")
            await publisher.stop()
        await in_state(gateway, "waiting_for_publisher")
        before = await gateway.signer_audit()
        await asyncio.sleep(2.5)  # the time that it takes to restart: two payments would be due
        assert (await gateway.signer_audit())["signings"] == before["signings"]
        heard, shown = viewer.sound, viewer.size
        other = encoded_pattern(480, 270)
        url = gateway.live("cam/whip") + '?params={"effect":"grey"}'
        async with WhipPublisher(http, url, units=other, audio=True) as publisher:
            await eventually(lambda: viewer.size == (480, 270), what="the new size")
            assert shown == (320, 240)
            await eventually(lambda: viewer.shows_original, what="the new parameters' effect")
            await eventually(lambda: viewer.sound > heard + 20, what="the sound")
            status = await in_state(gateway, "live", resumed=1)
            assert status["error"] is None
            await publisher.stop(resume=False)
        await ended(gateway, "cam")
        after = await gateway.signer_audit()
        assert (after["null_states"], after["signings"] > before["signings"]) == (opened + 1, True)
        await clean_audits(gateway)
        assert all(later > earlier for earlier, later in pairwise(viewer.pts))


@pytest.mark.asyncio(loop_scope="module")
async def test_whoever_takes_over_from_a_silent_publisher_takes_the_paid_job_too(
    gateway: GatewayProcess,
) -> None:
    http, opened = gateway.http, await openings(gateway)
    async with (
        WhepViewer(http, gateway.live("cam/whep")) as viewer,
        WhipPublisher(http, gateway.live("cam/whip")) as silent,
    ):
        await shows_more(viewer)
        silent.track.paused.set()
        last = viewer.frames

        async def taken_over() -> WhipPublisher | None:
            try:
                return await WhipPublisher(http, gateway.live("cam/whip")).__aenter__()
            except Exception:
                return None

        publisher = await eventually(taken_over, every=0.2, what="the takeover")
        try:
            await in_state(gateway, "live", resumed=1)
            await eventually(lambda: viewer.frames > last + 10, what="its pictures")
            await silent.stop()  # its session is over: this ends nothing
            assert (await in_state(gateway, "live"))["resumed"] == 1
            await publisher.stop(resume=False)
            await ended(gateway, "cam")
        finally:
            await publisher.__aexit__(None, None, None)
        assert await openings(gateway) == opened + 1


@pytest.mark.asyncio
async def test_a_job_whose_publisher_stays_away_ends_while_its_credit_covers_the_pause(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    flags = ("-resumeTimeout", "1m", "-livePaymentInterval", "1s", "-preload", "6s")
    async with (
        gateway_process(tmp_path, *flags) as gateway,
        WhepViewer(http, gateway.live("cam/whep")) as viewer,
    ):
        async with WhipPublisher(http, gateway.live("cam/whip")) as publisher:
            await shows_more(viewer)
            await publisher.stop()
        status = await ended(gateway, "cam", deadline=30)
        assert status["ended"]["reason"] == "deleted"
        assert "credit" in status["ended"]["detail"]
        assert status["payments"]["credited_wei"] == str(await clean_audits(gateway))


@pytest.mark.asyncio
async def test_a_job_that_waits_gives_way_to_a_stream_that_needs_its_place(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    flags = ("-resumeTimeout", "1m", "-capacity", "1", "-maxStreams", "1")
    async with gateway_process(tmp_path, *flags) as gateway:
        async with WhipPublisher(http, gateway.live("cam/whip")) as publisher:
            await in_state(gateway, "live")
            await publisher.stop()
        await in_state(gateway, "waiting_for_publisher")
        async with (
            WhepViewer(http, gateway.live("other/whep")) as viewer,
            WhipPublisher(http, gateway.live("other/whip")) as other,
        ):
            await eventually(lambda: viewer.shows_negative, what="the other stream's picture")
            status = await ended(gateway, "cam")
            assert "another stream" in status["ended"]["detail"]
            await other.stop(resume=False)
            await ended(gateway, "other")
