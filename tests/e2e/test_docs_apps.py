"""The page that `docs/apps.md` shows to app builders, run as it stands and from another origin."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from harness.browser import chromium
from harness.gateway import gateway_process
from harness.serving import serving
from harness.waiting import eventually
from tests.e2e.test_loop import ended

DOCUMENT = Path(__file__).parents[2] / "docs" / "apps.md"
SHOWN = "document.querySelector('#result').getVideoPlaybackQuality().totalVideoFrames"


@pytest.mark.asyncio
async def test_the_page_publishes_watches_updates_and_stops(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    found = re.search(r"```html\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None

    async def serve(_: web.Request) -> web.Response:
        return web.Response(text=found[1], content_type="text/html")

    async with (
        serving(web.get("/", serve)) as url,
        gateway_process(tmp_path) as gateway,
        chromium() as browser,
    ):
        page = await browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(f"{url}/?gateway={gateway.url.rstrip('/')}")

        async def shown() -> bool:
            return bool(await page.evaluate(SHOWN) > 30)

        await eventually(shown, deadline=40, what="the result on the page")
        assert (await page.evaluate("stream.update({effect: 'none'}).then(answer => answer.status)")) == 200
        assert (await page.evaluate("stream.status()"))["state"] == "live"

        async def paid() -> bool:
            return bool((await page.evaluate("stream.payments()"))["sessions"][0]["payments"])

        await eventually(paid, what="the payments")
        assert await page.evaluate("stream.stop().then(answer => answer.status)") == 200
        assert (await ended(gateway, "my-camera"))["ended"]["reason"] == "deleted"
        assert errors == []
