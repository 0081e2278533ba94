"""Faults around a live stream, and how it goes on or ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from harness.gateway import GatewayProcess, gateway_process
from harness.waiting import eventually
from harness.webrtc import Refused, WhepViewer, WhipPublisher
from tests.e2e.test_loop import clean_audits, ended, stream_for


@pytest.mark.asyncio
async def test_an_orchestrator_that_dies_ends_the_stream_with_that_reason(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with gateway_process(tmp_path) as gateway:
        before = await gateway.holds()
        async with (
            WhepViewer(http, gateway.live("cam/whep")) as viewer,
            WhipPublisher(http, gateway.live("cam/whip")),
        ):
            await eventually(lambda: viewer.shows_negative, what="the changed picture")
            os.kill((await gateway.devnet())["orchestrators"][0]["pid"], signal.SIGKILL)
            status = await ended(gateway, "cam")
            assert status["ended"]["reason"] == "orchestrator_lost"
            assert status["error"]["error_message"]

        await gateway.given_back(before)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    """A gateway for tests that leave it as it was: each has a stream of its own."""
    flags = ("-livePaymentInterval", "1s", "-restart", "-ticketSeconds", "0.6", "-ingestTimeout", "30s")
    async with gateway_process(tmp_path_factory.mktemp("faults"), *flags) as gateway:
        yield gateway


@pytest.mark.asyncio(loop_scope="module")
async def test_a_stream_survives_a_restart_of_the_signer(shared: GatewayProcess) -> None:
    async with (
        WhepViewer(shared.http, shared.live("signed/whep")) as viewer,
        WhipPublisher(shared.http, shared.live("signed/whip")) as publisher,
    ):
        await eventually(lambda: viewer.shows_negative, what="the changed picture")
        paid = (await shared.status("signed"))["payments"]["accepted"]
        await shared.restart_signer()

        async def pays_again() -> bool:
            return bool((await shared.status("signed"))["payments"]["accepted"] >= paid + 3)

        await eventually(pays_again, what="payments after the restart")
        # the new process has seen no null state: the session went on
        assert (await shared.signer_audit())["null_states"] == 0
        await publisher.stop()
        await ended(shared, "signed")
    await clean_audits(shared)


@pytest.mark.asyncio
async def test_params_and_tokens_that_expire_within_the_stream_are_renewed(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    # params live 40 blocks = 2 s, and tokens want a refresh every 5 s
    flags = ("-blockTime", "50ms", "-tokenLife", "3m5s", "-livePaymentInterval", "2500ms")
    async with gateway_process(tmp_path, *flags) as gateway:
        _, viewer = await stream_for(13, gateway, http)
        status = await gateway.status("cam")
        assert status["ended"]["reason"] == "deleted"
        assert status["payments"]["accepted"] >= 4
        assert viewer.frames > 260
        assert (await gateway.signer_audit())["null_states"] == 1
        await clean_audits(gateway)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_payment_of_a_hundred_tickets_passes(shared: GatewayProcess) -> None:
    await stream_for(1, shared, shared.http, "tickets")
    assert (await shared.status("tickets"))["payments"]["tickets"] >= 100
    await clean_audits(shared)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_stopped_runner_is_reported_in_the_status(shared: GatewayProcess) -> None:
    async with (
        WhepViewer(shared.http, shared.live("stopped/whep")) as viewer,
        WhipPublisher(shared.http, shared.live("stopped/whip")),
    ):
        await eventually(lambda: viewer.shows_negative, what="the changed picture")
        runner = (await shared.devnet())["runner_pid"]
        os.kill(runner, signal.SIGSTOP)
        try:

            async def silence() -> bool:
                status = await shared.status("stopped")
                error = status["error"] or {}
                return "no picture has come back" in error.get("error_message", "")

            await eventually(silence, what="the silence in the status")
            seen = viewer.frames
            await asyncio.sleep(1)  # a second in which nothing comes
            assert viewer.frames == seen
            assert (await shared.status("stopped"))["output"]["fps"] == 0
        finally:
            os.kill(runner, signal.SIGCONT)
        await eventually(lambda: viewer.frames > seen + 10, what="the picture's return")


@pytest.mark.asyncio
async def test_orchestrators_above_the_price_ceiling_are_refused_with_their_verdicts(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    flags = ("-prices", "1000000000000001", "-maxPricePerUnit", "1000000000000000")
    async with gateway_process(tmp_path, *flags, wait_ready=False) as gateway:
        await gateway.listening()

        async def asked() -> bool:
            async with http.get(gateway.url + "readyz") as response:
                return response.status == 503 and "above" in await response.text()

        await eventually(asked, what="the orchestrators' answers")
        with pytest.raises(Refused) as refused:
            async with WhipPublisher(http, gateway.live("cam/whip")):
                pass
        assert refused.value.status == 503
        assert "Retry-After" in refused.value.headers
        candidates = refused.value.problem["candidates"]
        assert isinstance(candidates, list)
        assert {c["verdict"] for c in candidates} == {"price_above_max"}
        assert {c["price_wei_per_second"] for c in candidates} == {"1000000000000001"}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_name_is_in_use_while_media_flows_and_free_after_it_stops(shared: GatewayProcess) -> None:
    async with WhipPublisher(shared.http, shared.live("cam/whip")) as first:

        async def live() -> bool:
            return bool((await shared.status("cam"))["state"] == "live")

        await eventually(live, what="the first stream")
        with pytest.raises(Refused) as refused:
            async with WhipPublisher(shared.http, shared.live("cam/whip")):
                pass
        assert (refused.value.status, refused.value.problem["code"]) == (409, "name_taken")

        first.track.paused.set()

        async def taken_over() -> WhipPublisher | None:
            second = WhipPublisher(shared.http, shared.live("cam/whip"))
            try:
                return await second.__aenter__()
            except Refused:
                return None

        second = await eventually(taken_over, every=0.5, what="the takeover")
        try:
            await eventually(live, what="the second stream")
        finally:
            await second.__aexit__(None, None, None)
