"""Debian's Chromium publishes its camera through the page and watches the result."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from harness.browser import chromium
from harness.gateway import GatewayProcess, gateway_process
from harness.waiting import eventually
from harness.webrtc import WhepViewer
from tests.e2e.test_loop import clean_audits, ended

pytestmark = pytest.mark.asyncio(loop_scope="module")
FLAGS = ("-orchestrators", "2", "-livePaymentInterval", "1s", "-resumeTimeout", "10s")
# Both pictures, small, as luma: the negative of a picture is its opposite, pixel by pixel.
CORRELATION = """() => {
  const luma = id => {
    const canvas = new OffscreenCanvas(32, 18), context = canvas.getContext('2d');
    context.drawImage(document.getElementById(id), 0, 0, 32, 18);
    const data = context.getImageData(0, 0, 32, 18).data, values = [];
    for (let i = 0; i < data.length; i += 4)
      values.push(0.3 * data[i] + 0.6 * data[i + 1] + 0.1 * data[i + 2]);
    return values;
  };
  const a = luma('source-video'), b = luma('result-video');
  const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;
  const ma = mean(a), mb = mean(b);
  let ab = 0, aa = 0, bb = 0;
  for (let i = 0; i < a.length; i++) {
    ab += (a[i] - ma) * (b[i] - mb); aa += (a[i] - ma) ** 2; bb += (b[i] - mb) ** 2;
  }
  return {correlation: ab / Math.sqrt(aa * bb || 1), sum: ma + mb};
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    async with gateway_process(tmp_path_factory.mktemp("browser"), *FLAGS) as gateway:
        yield gateway


async def shows_the_negative(page: Page) -> bool:
    seen = await page.evaluate(CORRELATION)
    return bool(seen["correlation"] < -0.8 and 215 < seen["sum"] < 295)


async def wei_on(page: Page) -> int:
    text = await page.locator("#cost-wei").inner_text()
    return int("".join(c for c in text if c.isdigit()) or 0)


# TAKE_PICTURE=1 scripts/test tests/e2e/test_browser.py takes the README's picture anew
PICTURE = Path(__file__).parents[2] / "docs" / "page.jpg"


async def take_picture(page: Page, folder: Path) -> None:
    taken = PICTURE if os.environ.get("TAKE_PICTURE") else folder / PICTURE.name
    await page.screenshot(path=taken, full_page=True, type="jpeg", quality=85)
    assert taken.stat().st_size > 20_000


async def number_in(page: Page, selector: str) -> int:
    text = await page.locator(selector).inner_text()
    return int("".join(c for c in text if c.isdigit()) or 0)


async def test_a_camera_is_published_as_h264_changed_paid_for_and_stopped(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    async with chromium() as browser:
        page = await browser.new_page(viewport={"width": 1280, "height": 1400})
        await page.goto(gateway.url)
        await page.select_option("#source", "camera")
        await page.fill("#stream-name", "cam")
        await page.click("#start")
        await eventually(lambda: shows_the_negative(page), deadline=40, what="the negative on the page")
        assert (await gateway.status("cam"))["ingest"]["codec"] == "H264"

        first = await eventually(lambda: wei_on(page), what="the cost on the page")

        async def grown() -> bool:
            return await wei_on(page) > first

        await eventually(grown, what="the cost to grow")

        async def paid_twice_and_measured() -> bool:
            delay = await page.locator("#delay").inner_text()
            return await number_in(page, "#payments") >= 3 and any(c.isdigit() for c in delay)

        await eventually(paid_twice_and_measured, what="payments and the delay on the page")
        assert await page.locator("#candidates tr").count() == 2
        assert await page.locator("#payment-log > *").count() >= 1
        await take_picture(page, tmp_path)
        await a_viewer_follows_the_link(page, browser)
        await new_parameters_change_the_picture(page)
        await stops_and_costs_nothing_more(page, gateway)
        await clean_audits(gateway)


async def a_viewer_follows_the_link(page: Page, browser: Browser) -> None:
    link = await page.locator("#watch-link").get_attribute("href")
    assert link is not None
    viewer = await browser.new_page()
    await viewer.goto(urljoin(page.url, link))

    async def plays() -> bool:
        return bool(await viewer.evaluate("document.querySelector('video').videoWidth > 0"))

    await eventually(plays, what="the picture behind the link")
    await viewer.close()


async def new_parameters_change_the_picture(page: Page) -> None:
    await page.fill("#params", '{"effect": "none"}')
    await page.click("#send-params")

    async def unchanged() -> bool:
        seen = await page.evaluate(CORRELATION)
        return bool(seen["correlation"] > 0.8)

    await eventually(unchanged, what="the picture without the effect")


async def stops_and_costs_nothing_more(page: Page, gateway: GatewayProcess) -> None:
    await page.click("#stop")
    status = await ended(gateway, "cam")
    assert status["ended"]["reason"] == "deleted"
    settled = await gateway.signer_audit()
    # longer than two payment intervals: nothing is signed any more
    with pytest.raises(AssertionError, match="another signing"):
        await eventually(
            lambda: _signed_more(gateway, settled["signings"]), deadline=2.5, what="another signing"
        )


async def _signed_more(gateway: GatewayProcess, before: int) -> bool:
    return bool((await gateway.signer_audit())["signings"] > before)


async def test_a_page_that_is_reloaded_goes_on_with_its_paid_job(gateway: GatewayProcess) -> None:
    before = (await gateway.signer_audit())["null_states"]
    async with chromium() as browser:
        page = await browser.new_page()
        await page.goto(gateway.url)
        name = await page.input_value("#stream-name")
        for reloads in range(4):
            await page.select_option("#source", "test")
            await page.click("#start")

            await expect(page.locator("#state")).to_have_text("Live.")
            assert (await gateway.status(name))["resumed"] == reloads
            if reloads < 3:
                await page.reload()

                async def held() -> bool:
                    return bool((await gateway.status(name))["state"] == "waiting_for_publisher")

                await eventually(held, what="the job to be held")
        assert (await gateway.signer_audit())["null_states"] == before + 1
        await page.click("#stop")
        assert (await ended(gateway, name))["ended"]["reason"] == "deleted"
        await clean_audits(gateway)


async def test_others_watch_what_the_page_publishes(gateway: GatewayProcess) -> None:
    async with aiohttp.ClientSession() as http, chromium() as browser:
        page = await browser.new_page()
        await page.goto(gateway.url)
        await page.select_option("#source", "test")
        await page.fill("#stream-name", "cam")
        await page.click("#start")
        watcher = await browser.new_page()
        await watcher.goto(gateway.url + "watch?stream=cam")

        async def plays() -> bool:
            return bool(await watcher.evaluate("document.querySelector('video').videoWidth > 0"))

        await eventually(plays, deadline=40, what="the watch page's picture")
        async with WhepViewer(http, gateway.live("cam/whep")) as viewer:
            await eventually(lambda: viewer.frames > 30, what="a viewer that is no browser")
        await page.click("#stop")
        await ended(gateway, "cam")
