"""Streams on live runners: reserved, paid to the second, and stopped, in both dialects."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from harness.gateway import GatewayProcess, gateway_process
from harness.ledger import credited, verify
from harness.waiting import SLACK, eventually
from harness.webrtc import WhepViewer, WhipPublisher
from tests.e2e.test_comfystream import with_params
from tests.e2e.test_loop import ended

MAX_ROUNDING = 0.02
"""Seconds billed after the opening beyond those that passed, as a share."""
SWAP = 1.0
"""Seconds without the effect, at most, where another one takes over."""

SILENCE = 5.0
"""Seconds without pictures after which who gives none is left."""


async def paid(gateway: GatewayProcess, payments: int) -> dict[str, Any]:
    async def enough() -> dict[str, Any] | None:
        status = await gateway.status("cam")
        return status if status["payments"]["accepted"] >= payments else None

    return dict(await eventually(enough, every=0.1, what=f"{payments} payments"))


PUBLIC = ("metrics", "orchestrators", "debug/state", "readyz", "live/video-to-video/cam/status", "streams")
"""What the gateway says to operators and to a stream's own people."""


async def everything_public(gateway: GatewayProcess) -> dict[str, str]:
    """The text of each route that tells of a stream with its payments."""
    shown = {}
    for path in (*PUBLIC, "live/video-to-video/cam/payments"):
        async with gateway.http.get(gateway.url + path) as response:
            assert response.status in (200, 503), f"{path}: {response.status}"
            shown[path] = await response.text()
    assert '"number": 2' in shown["live/video-to-video/cam/payments"], (
        "one that names the session to the signer"
    )
    return shown


@pytest.mark.asyncio
async def test_a_stream_is_changed_updated_resumed_and_paid_to_the_second(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    network = ("-orchestrators", "0", "-runners", "1", "-dialect", "go", "-appText", "-resumeTimeout", "10s")
    async with gateway_process(tmp_path, *network, "-ledger", str(ledger)) as gateway:
        runner = (await gateway.devnet())["runners"][0]
        async with WhepViewer(http, gateway.live("cam/whep")) as viewer:
            async with WhipPublisher(http, gateway.live("cam/whip")) as publisher:
                await eventually(lambda: viewer.shows_negative, what="the changed picture")
                async with http.post(gateway.live("cam/update"), json={"mode": "echo"}) as response:
                    assert response.status == 200
                await eventually(lambda: viewer.shows_original, what="the other effect")
                status = await paid(gateway, 3)
                where = status["orchestrator"]
                assert (where["kind"], where["app"]) == ("runner", runner["app"])
                assert where["address"] == runner["address"] and "manifest_id" not in where
                said = (await gateway.get("live/video-to-video/cam/status"))["text"]
                assert said["type"] == "text" and said["text"].endswith("pictures")
                await publisher.stop()
            async with WhipPublisher(http, gateway.live("cam/whip")) as publisher:  # a reload of the page
                back = time.monotonic()
                frames = viewer.frames
                await eventually(
                    lambda: viewer.frames > frames + 5 and viewer.shows_original, what="it again"
                )
                assert time.monotonic() - back < SLACK * 1.0
                status = await paid(gateway, 5)
                assert status["resumed"] == 1
                payments = status["payments"]
                assert payments["credit_left_s"] > 5
                assert int(payments["overpaid_wei"]) <= MAX_ROUNDING * int(payments["owed_wei"]) * SLACK
                shown = await everything_public(gateway)
                await publisher.stop(resume=False)
            last = await ended(gateway, "cam")
            assert last["ended"]["reason"] == "deleted"
            shown |= {f"{path} after it": text for path, text in (await everything_public(gateway)).items()}
        audit = (await gateway.audits())[0]
        assert (audit["rejected"], audit["duplicate_nonces"], audit["stale_params"]) == (0, 0, 0)
        assert [one["ended"] for one in audit["sessions"].values()] == [True]
        assert audit["credited_wei"] == last["payments"]["credited_wei"] == str(credited(ledger))
        signer = await gateway.signer_audit()
        assert (signer["null_states"], signer["stale_states"], signer["overlapping"]) == (1, 0, 0)
        (session,) = audit["sessions"]
        own = [line for line in gateway.log.read_text().splitlines() if "area=devnet" not in line]
        assert own
        shown["log"] = "\n".join(own)
        assert [where for where, text in shown.items() if session in text] == [], "the session is a secret"
    await verify(ledger)


@pytest.mark.asyncio
async def test_an_app_that_is_started_by_messages_gives_its_sound_and_is_halted(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    network = ("-orchestrators", "0", "-runners", "1", "-appStart", "messages")
    flags = ("-livePaymentInterval", "1s", "-liveOutSegmentTimeout", f"{SILENCE:g}s")
    async with (
        gateway_process(tmp_path, *network, *flags) as gateway,
        WhepViewer(http, gateway.live("cam/whep"), audio=True) as viewer,
        WhipPublisher(http, with_params(gateway, "cam", {"produces_audio": True})),
    ):
        await eventually(lambda: viewer.shows_negative, what="the changed picture")
        await eventually(lambda: viewer.sound > 20, what="the sound of the app")

        async def update(body: object) -> None:
            async with http.post(gateway.live("cam/update"), json=body) as response:
                assert response.status == 200, await response.text()

        await update({"pause": True})
        assert (await gateway.get("live/video-to-video/cam/status"))["paused"] is True
        before = await gateway.status("cam")

        async def stands_still() -> bool:
            frames = viewer.frames
            await asyncio.sleep(SILENCE + 1)
            return viewer.frames == frames

        await eventually(stands_still, what="no pictures for longer than an app may be silent")
        status = await gateway.status("cam")
        assert (status["state"], status["swaps"], status["error"]) == ("live", 0, before["error"])
        assert status["payments"]["accepted"] > before["payments"]["accepted"], "it costs on"
        await update({"resume": True})
        frames = viewer.frames
        await eventually(lambda: viewer.frames > frames + 30 and viewer.shows_negative, what="pictures again")
        assert "paused" not in await gateway.get("live/video-to-video/cam/status")


@pytest.mark.asyncio
async def test_a_killed_runner_of_a_node_is_replaced_by_a_job_and_both_are_paid_to_the_wei(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    network = ("-orchestrators", "1", "-runners", "1", "-dialect", "node")
    prices = ("-prices", "2000000000000000,1000000000000000", "-maxPricePerUnit", "0.002ETH")
    async with gateway_process(tmp_path, *network, *prices, "-ledger", str(ledger)) as gateway:
        async with (
            WhepViewer(http, gateway.live("cam/whep")) as viewer,
            WhipPublisher(http, gateway.live("cam/whip")) as publisher,
        ):
            await eventually(lambda: viewer.shows_negative, what="the changed picture")
            status = await paid(gateway, 2)
            described = await gateway.devnet()
            (runner,), (orchestrator,) = described["runners"], described["orchestrators"]
            assert status["orchestrator"]["url"].startswith(runner["url"]), "the cheapest"
            audit = await gateway.fetch(runner["audit_url"])
            assert (audit["rejected"], audit["stale_params"]) == (0, 0)
            before, shown = time.monotonic(), viewer.frames
            os.kill(runner["pid"], signal.SIGKILL)

            async def swapped() -> bool:
                status = await gateway.status("cam")
                return bool(status["swaps"] == 1 and status["state"] == "live")

            await eventually(swapped, every=0.02, what="the swap")
            await eventually(
                lambda: viewer.frames > shown + 10 and viewer.shows_negative, what="pictures again"
            )
            assert time.monotonic() - before < SLACK * SWAP
            assert (await gateway.status("cam"))["orchestrator"]["url"] == orchestrator["url"]
            await publisher.stop()
        await ended(gateway, "cam")
        after = await gateway.fetch(orchestrator["audit_url"])
    assert credited(ledger) == int(audit["credited_wei"]) + int(after["credited_wei"])
    await verify(ledger)
