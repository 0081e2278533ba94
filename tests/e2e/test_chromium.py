"""Debian's Chromium as publisher and viewer, without the gateway's own page."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page

from harness.browser import PUBLISH, RECEIVED, SENT, WATCH, chromium, noisy_camera
from harness.gateway import GatewayProcess, gateway_process
from harness.waiting import SLACK, eventually
from tests.e2e.test_loop import ended

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.long]
SEGMENTS_SECONDS = int(os.environ.get("SEGMENTS_SECONDS", "15"))
CAMERA = {"width": 640, "height": 360, "fps": 30}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("chromium")
    async with gateway_process(folder, "-effect", "none") as gateway:
        yield gateway


@pytest_asyncio.fixture(loop_scope="module")
async def page(gateway: GatewayProcess) -> AsyncIterator[Page]:
    async with chromium() as browser:
        page = await browser.new_page()
        await page.goto(gateway.url + "healthz")
        yield page


async def publish(page: Page, gateway: GatewayProcess, name: str, profile: str, **camera: Any) -> int:
    wanted = {"url": gateway.live(f"{name}/whip"), "profile": profile, "audio": False, **CAMERA, **camera}
    return int(await page.evaluate(PUBLISH, wanted))


async def plays(page: Page, more_than: int = 30) -> bool:
    return bool((await page.evaluate(RECEIVED)).get("video", {}).get("frames", 0) > more_than)


@pytest.mark.parametrize("audio", [False, True])
@pytest.mark.parametrize("profile", ["42001f", "42e01f", "4d001f"])
async def test_each_profile_goes_through_with_sound_and_without(
    page: Page, gateway: GatewayProcess, profile: str, audio: bool
) -> None:
    name = f"chromium-{profile}-{audio}"
    assert await publish(page, gateway, name, profile, audio=audio) == 201
    assert await page.evaluate(WATCH, gateway.live(f"{name}/whep")) == 201
    await eventually(lambda: plays(page), what="the picture")

    async def hears() -> bool:
        return bool((await page.evaluate(RECEIVED)).get("audio", {}).get("packets", 0) > 50)

    if audio:
        await eventually(hears, what="the sound")
    status = await gateway.status(name)
    assert (status["ingest"]["codec"], status["error"]) == ("H264", None)
    await page.evaluate("fetch(window.location_, {method: 'DELETE'})")
    assert (await ended(gateway, name))["ended"]["reason"] == "deleted"


async def test_one_of_three_simulcast_layers_is_sent_and_watched(page: Page, gateway: GatewayProcess) -> None:
    layers = [{"rid": rid, "scaleResolutionDownBy": by} for rid, by in (("h", 1), ("m", 2), ("l", 4))]
    assert await publish(page, gateway, "simulcast", "42e01f", layers=layers) == 201
    assert await page.evaluate(WATCH, gateway.live("simulcast/whep")) == 201
    await eventually(lambda: plays(page), what="the picture")

    async def full_size() -> bool:
        ingest = (await gateway.status("simulcast"))["ingest"]
        return bool((ingest["width"], ingest["height"]) == (CAMERA["width"], CAMERA["height"]))

    await eventually(full_size, what="the layer of full size")
    assert (await gateway.status("simulcast"))["error"] is None


@pytest.mark.timeout(180 + SEGMENTS_SECONDS)
async def test_its_segments_are_one_to_three_seconds_long(page: Page, gateway: GatewayProcess) -> None:
    assert await publish(page, gateway, "segments", "42e01f") == 201
    await eventually(lambda: is_live(gateway, "segments"), what="the first picture")
    gops: list[float] = []
    before = (await gateway.status("segments"))["output"]["segments"]
    for _ in range(SEGMENTS_SECONDS):
        await asyncio.sleep(1)
        ingest = (await gateway.status("segments"))["ingest"]
        gops.append(max(ingest["gop_s"] or 0.0, ingest["key_frame_age_s"]))
        assert ingest["gop_note"] is None
    assert max(gops[3:]) <= 3.0
    segments = (await gateway.status("segments"))["output"]["segments"] - before
    assert SEGMENTS_SECONDS / 3 - 1 <= segments <= SEGMENTS_SECONDS


async def test_a_page_that_is_reloaded_takes_its_name_over(page: Page, gateway: GatewayProcess) -> None:
    assert await publish(page, gateway, "reloaded", "42e01f") == 201
    await eventually(lambda: is_live(gateway, "reloaded"), what="the first publish")
    first = (await gateway.status("reloaded"))["request_id"]
    await page.reload()

    async def again() -> bool:
        return await publish(page, gateway, "reloaded", "42e01f") == 201

    await eventually(again, every=0.5, what="the second publish to be taken")
    await eventually(lambda: is_live(gateway, "reloaded"), what="the second publish")
    assert (await gateway.status("reloaded"))["request_id"] != first


async def test_a_page_that_is_reloaded_goes_on_with_the_paid_job(tmp_path: Path) -> None:
    async with gateway_process(tmp_path, "-resumeTimeout", "10s") as gateway, chromium() as browser:
        page = await browser.new_page()
        await page.goto(gateway.url + "healthz")
        first = None
        for reloads in range(3):

            async def published(width: int = 640 + 160 * reloads) -> bool:
                return await publish(page, gateway, "kept", "42e01f", width=width) == 201

            async def goes_on(resumed: int = reloads) -> bool:
                status = await gateway.status("kept")
                return bool(status["state"] == "live" and status["resumed"] == resumed)

            await eventually(published, every=0.5, what="the publish to be taken")
            await eventually(goes_on, what="its picture")
            first = first or (await gateway.status("kept"))["request_id"]
            assert (await gateway.status("kept"))["request_id"] == first
            await page.reload()
        assert (await gateway.signer_audit())["null_states"] == 1


async def is_live(gateway: GatewayProcess, name: str) -> bool:
    return bool((await gateway.status(name))["state"] == "live")


async def test_a_busy_camera_is_sent_at_its_full_size_and_rate(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    camera = noisy_camera(tmp_path / "noise.y4m")
    async with chromium(f"--use-file-for-fake-video-capture={camera}") as browser:
        page = await browser.new_page()
        await page.goto(gateway.url + "healthz")
        assert await publish(page, gateway, "busy", "42e01f", width=1280, height=720) == 201

        async def full() -> bool:
            sent = await page.evaluate(SENT)
            return bool(sent and sent["width"] == 1280 and (sent["fps"] or 0) >= 25)

        await eventually(lambda: is_live(gateway, "busy"), what="the first picture")
        await eventually(full, deadline=SLACK * 5, what="1280 wide and 25 frames a second")
        ingest: list[dict[str, Any]] = []
        allowed: list[float] = []
        for _ in range(8):
            await asyncio.sleep(1)
            ingest.append((await gateway.status("busy"))["ingest"])
            allowed.append((await page.evaluate(SENT))["target"])
        assert {one["width"] for one in ingest} == {1280}
        assert min(allowed) >= 1_500_000, "its congestion control takes the path for a narrow one"
        assert sorted(one["fps"] for one in ingest)[len(ingest) // 2] >= 25
