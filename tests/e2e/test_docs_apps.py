"""The page that `docs/apps.md` shows to app builders, run as it stands and from another origin."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from harness.browser import chromium
from harness.gateway import gateway_process
from harness.serving import serving
from harness.waiting import DEADLINE, eventually
from tests.e2e.test_loop import ended

DOCUMENT = Path(__file__).parents[2] / "docs" / "apps.md"
SHOWN = "document.querySelector('#result').getVideoPlaybackQuality().totalVideoFrames"

LOSE = """(() => {
  publication.connection.close();
  publication.connection.dispatchEvent(new Event("connectionstatechange"));
})()"""
"""What the page sees when its connection is lost."""


@pytest.mark.asyncio
async def test_the_page_publishes_watches_updates_and_stops(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    text = DOCUMENT.read_text()
    found = re.search(r"```html\n(.*?)```", text, re.DOTALL)
    program = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    assert program is not None

    async def serve(_: web.Request) -> web.Response:
        return web.Response(text=found[1], content_type="text/html")

    async with (
        serving(web.get("/", serve)) as url,
        gateway_process(tmp_path, "-resumeTimeout", "10s") as gateway,
        chromium() as browser,
    ):
        page = await browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(f"{url}/?gateway={gateway.url.rstrip('/')}")

        async def shown() -> bool:
            return bool(await page.evaluate(SHOWN) > 30)

        await eventually(shown, deadline=40, what="the result on the page")
        follower = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program[1], gateway.url.rstrip("/"), "my-camera"), stdout=PIPE
        )
        assert (await page.evaluate("stream.update({effect: 'none'})"))["status"] == "ok"
        assert (await page.evaluate("stream.status()"))["state"] == "live"

        async def paid() -> bool:
            return bool((await page.evaluate("stream.payments()"))["sessions"][0]["payments"])

        await eventually(paid, what="the payments")

        await page.evaluate(LOSE)

        async def resumed() -> bool:
            return bool((await gateway.status("my-camera"))["resumed"] == 1)

        await eventually(resumed, what="the publisher to be back at its job")
        assert await page.evaluate("publication.stop().then(() => publication.over)")
        assert (await ended(gateway, "my-camera"))["ended"]["reason"] == "deleted"
        said, _ = await asyncio.wait_for(follower.communicate(), DEADLINE)
        types = [line.split()[0] for line in said.decode().splitlines() if "." in line.split()[0]]
        assert types == ["stream.created", "stream.live", "stream.ended"]
        assert "cost so far:" in said.decode()
        assert {"stream.created", "stream.live"} <= set(await page.evaluate("seen"))
        assert errors == []
