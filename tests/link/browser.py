"""Chromium publishes over a link that gets narrow, and then breaks for some seconds."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from playwright.async_api import Page

from harness.browser import CHROMIUM, PUBLISH, SENT, chromium
from harness.gateway import GatewayProcess, gateway_process
from harness.waiting import eventually
from tests.e2e.test_chromium import noisy_camera
from tests.link.network import NEAR, Link, link

NARROW = 1_000_000
"""Bits a second."""
LONGEST_BREAK = 4.0


async def run() -> None:
    flags = ("-effect", "none", "-iceGrace", "20s")
    listening = ("-httpAddr", f"{NEAR}:0", "-cliAddr", f"{NEAR}:0")
    with tempfile.TemporaryDirectory() as name, link(seed=3) as path:
        folder = Path(name)
        path.conditions.delay = 0.02
        camera = noisy_camera(folder / "noise.y4m")
        wrapper = folder / "chromium"
        wrapper.write_text(f'#!/bin/sh\nexec {" ".join(path.far(CHROMIUM))} "$@"\n')
        wrapper.chmod(0o755)
        async with gateway_process(folder, *flags, *listening) as gateway:
            browser_flags = (
                f"--use-file-for-fake-video-capture={camera}",
                f"--unsafely-treat-insecure-origin-as-secure={gateway.url.rstrip('/')}",
            )
            async with chromium(*browser_flags, path=str(wrapper)) as browser:
                page = await browser.new_page()
                await page.goto(gateway.url + "healthz")
                options = {"profile": "42e01f", "audio": False, "width": 1280, "height": 720, "fps": 30}
                assert await page.evaluate(PUBLISH, {"url": gateway.live("cam/whip"), **options}) == 201
                await wide(page, gateway)
                await narrow(path, gateway)
                await broken(path, gateway)


async def ingest(gateway: GatewayProcess) -> dict[str, Any]:
    return dict((await gateway.status("cam"))["ingest"] or {})


async def wide(page: Page, gateway: GatewayProcess) -> None:
    async def full() -> bool:
        sent = await page.evaluate(SENT)
        return bool(sent and sent["width"] == 1280 and (sent["fps"] or 0) >= 25)

    await eventually(full, what="1280 wide and 25 frames a second")
    await eventually(lambda: rate_above(gateway, 1_500_000), what="a rate above that of the narrow link")


async def rate_above(gateway: GatewayProcess, rate: int) -> bool:
    return bool((await ingest(gateway)).get("bitrate_bps", 0) > rate)


async def narrow(path: Link, gateway: GatewayProcess) -> None:
    """The sender settles below the link's rate and then loses almost nothing."""
    path.conditions.bits_per_second = NARROW

    async def settled() -> bool:
        now = await ingest(gateway)
        return bool(0 < now["bitrate_bps"] < NARROW and now["fps"] > 5)

    await asyncio.sleep(8)
    await eventually(settled, what="a rate below the link's")
    before, dropped = await ingest(gateway), path.dropped
    rates = []
    for _ in range(10):
        await asyncio.sleep(1)
        rates.append((await ingest(gateway))["bitrate_bps"])
    after = await ingest(gateway)
    print(json.dumps({"narrow_rates": rates, "dropped": path.dropped - dropped, **after}))
    assert max(rates) < 1.1 * NARROW
    assert path.dropped - dropped < 60
    assert after["packets_lost"] - before["packets_lost"] < 30
    path.conditions.bits_per_second = float("inf")


async def broken(path: Link, gateway: GatewayProcess) -> None:
    """No network for some seconds, then the same session goes on."""
    request = (await gateway.status("cam"))["request_id"]
    path.conditions.cut = True
    await asyncio.sleep(LONGEST_BREAK)
    path.conditions.cut = False

    async def flows() -> bool:
        now = await ingest(gateway)
        return bool(now["fps"] > 15 and now["key_frame_age_s"] < 3)

    await eventually(flows, what="the picture after the break")
    status = await gateway.status("cam")
    assert (status["state"], status["error"], status["request_id"]) == ("live", None, request)


if __name__ == "__main__":
    asyncio.run(run())
