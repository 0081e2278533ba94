"""The operator's page on a phone, with a real gateway: what it shows, and what its buttons do."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import expect

from harness.browser import chromium
from harness.gateway import gateway_process
from harness.waiting import eventually
from harness.webrtc import WhipPublisher
from tests.e2e.test_loop import ended

PHONE = {"width": 390, "height": 844}
SHOWN = "document.querySelector('.stream video').getVideoPlaybackQuality().totalVideoFrames"
SCROLLS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.asyncio
async def test_the_operator_sees_moves_and_ends_a_stream_and_drains(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    flags = ("-orchestrators", "2", "-prices", "1000000000000000", "-maxSpendPerHour", "1ETH")
    async with gateway_process(tmp_path, *flags) as gateway, chromium() as browser:
        page = await browser.new_page(viewport=PHONE)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: dialog.accept())
        await page.goto(f"{gateway.url}operator")
        await expect(page.locator("#readiness")).to_have_text("Publishers are served.")
        async with WhipPublisher(http, gateway.live("cam/whip")):
            card = page.locator(".stream")
            await expect(card.locator(".state")).to_have_text("cam – live")
            await expect(card.locator(".facts")).to_contain_text("0.001 ETH")

            async def pictured() -> bool:
                return bool(await page.evaluate(SHOWN) > 5)

            await eventually(pictured, what="the picture")
            (row,) = (await gateway.get("streams"))["streams"]
            assert (row["cost_wei_per_second"], row["swaps"]) == ("1000000000000000", 0)
            (spent,) = (
                one for one in (await gateway.get("limits"))["limits"] if one["limit"] == "-maxSpendPerHour"
            )
            assert int(spent["used"]) >= int(row["credited_wei"]) > 0
            await expect(page.locator("#limits")).to_contain_text("of 1 ETH")
            await expect(page.locator("#orchestrators li")).to_have_count(2)
            assert await page.evaluate(SCROLLS) == 0

            await card.get_by_role("button", name="Swap").click()
            await expect(page.locator("#events")).to_contain_text("stream.swapped")
            assert (await gateway.status("cam"))["orchestrator"]["url"] != row["orchestrator"]["url"]
            await page.get_by_role("button", name="Drain").click()
            await expect(page.locator("#readiness")).to_contain_text("draining")
            assert len((await gateway.get("streams"))["streams"]) == 1
            await page.get_by_role("button", name="Drain").click()
            await expect(page.locator("#readiness")).to_have_text("Publishers are served.")
            await page.screenshot(path=tmp_path / "operator.png", full_page=True)
            await card.get_by_role("button", name="End").click()
            assert (await ended(gateway, "cam"))["ended"]["reason"] == "terminated"
            await expect(card).to_have_count(0)
            await expect(page.locator("#events")).to_contain_text("stream.ended")
        assert errors == []


@pytest.mark.asyncio
async def test_no_other_page_may_use_the_operators_buttons(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with gateway_process(tmp_path) as gateway:
        for headers in ({"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}):
            async with http.post(f"{gateway.url}drain", headers=headers) as answer:
                assert (answer.status, (await answer.json())["code"]) == (403, "cross_origin")
        assert not (await gateway.get("streams"))["draining"]
