"""The page for viewers plays, waits and reconnects by itself."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Page, expect

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLAYS = (
    "() => { const v = document.getElementById('video'); return v.videoWidth > 0 && v.currentTime > 0.3; }"
)


async def publish(page: Page, gateway: Any) -> None:
    gateway.script(state="live")
    await page.fill("#stream-name", "show")
    await page.select_option("#source", "test")
    await page.select_option("#resolution", "640x360")
    await page.click("#start")
    await expect(page.locator("#state")).to_have_text("Live.")


async def open_watch(page: Page, gateway: Any, rest: str = "watch?stream=show") -> Page:
    watch = await page.context.new_page()
    await watch.goto(gateway.url + rest)
    return watch


async def test_a_viewer_gets_the_picture_muted_and_without_a_click(page: Page, gateway: Any) -> None:
    await publish(page, gateway)
    watch = await open_watch(page, gateway)
    await watch.wait_for_function(PLAYS)
    assert await watch.evaluate("document.getElementById('video').muted")
    await expect(watch.locator("#state")).to_be_hidden()
    await expect(watch.locator("#node")).to_be_hidden()
    await watch.click("#sound")
    assert not await watch.evaluate("document.getElementById('video').muted")
    await expect(watch.locator("#sound")).to_have_attribute("aria-pressed", "true")


async def test_a_viewer_that_was_cut_off_comes_back_and_sees_which_node_serves_it(
    page: Page, gateway: Any
) -> None:
    gateway.nodes = [{"name": "node-3", "streams": 1, "viewers": 1, "draining": False}]
    await publish(page, gateway)
    watch = await open_watch(page, gateway)
    await watch.wait_for_function(PLAYS)
    former = gateway.watches
    await gateway.viewers[-1].close()
    await gateway.until(lambda: gateway.watches > former)
    await watch.wait_for_function(PLAYS)
    await expect(watch.locator("#node")).to_have_text("node-3")


async def test_a_viewer_who_came_too_early_is_told_to_wait(page: Page, gateway: Any) -> None:
    watch = await open_watch(page, gateway)
    await gateway.until(lambda: gateway.watches == 1)
    await expect(watch.locator("#state")).to_contain_text("Waiting for the picture")


async def test_a_full_gateway_is_asked_again(page: Page, gateway: Any) -> None:
    gateway.play_refusal = web.json_response({"status": 429, "code": "too_many_viewers"}, status=429)
    watch = await open_watch(page, gateway)
    await expect(watch.locator("#state")).to_contain_text("Too many viewers")
    gateway.play_refusal = None
    await gateway.until(lambda: gateway.viewers)


async def test_a_refused_token_is_said_and_not_tried_for_ever(page: Page, gateway: Any) -> None:
    gateway.play_refusal = web.json_response({"status": 401, "code": "unauthorized"}, status=401)
    watch = await open_watch(page, gateway)
    await expect(watch.locator("#state")).to_contain_text("This link needs a token")
    assert gateway.watches == 1


async def test_the_token_in_the_link_is_used(page: Page, gateway: Any) -> None:
    await open_watch(page, gateway, "watch?stream=show#token=may-watch")
    await gateway.until(lambda: gateway.play_authorizations)
    assert gateway.play_authorizations[0] == "Bearer may-watch"


async def test_a_link_without_a_name_says_what_is_missing(page: Page, gateway: Any) -> None:
    watch = await open_watch(page, gateway, "watch")
    await expect(watch.locator("#state")).to_contain_text("This link names no stream")
    assert gateway.watches == 0


async def test_a_viewer_that_leaves_says_so(page: Page, gateway: Any) -> None:
    await publish(page, gateway)
    watch = await open_watch(page, gateway)
    await watch.wait_for_function(PLAYS)
    await watch.goto("about:blank")
    await gateway.until(lambda: any("/show/whep/" in path for path in gateway.deleted))
