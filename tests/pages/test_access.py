"""The page can be used with a keyboard, a screen reader, a phone, and in light and dark colours."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from playwright.async_api import Browser, Page, expect

pytestmark = pytest.mark.asyncio(loop_scope="module")

# WCAG 2.2, 1.4.3: relative luminance of text against the nearest background.
LOW_CONTRAST = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((c) => {
      const share = c / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if ((colour[3] ?? 1) > 0) return colour;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const node of document.querySelectorAll("body *")) {
    const text = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!text || !node.checkVisibility() || node.closest(":disabled, svg")) continue;
    const [a, b] = [luminance(numbers(getComputedStyle(node).color)), luminance(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(`${node.tagName}#${node.id} ${ratio.toFixed(2)}`);
  }
  return low;
}"""


async def test_every_control_has_a_name(page: Page) -> None:
    nameless = await page.evaluate(
        """() => [...document.querySelectorAll("input, select, textarea, button")]
          .filter((c) => !(c.labels?.length || c.textContent.trim() || c.ariaLabel)).map((c) => c.id)"""
    )
    assert nameless == []


async def test_the_state_is_announced_and_errors_interrupt(page: Page) -> None:
    await expect(page.locator("#state")).to_have_attribute("aria-live", "polite")
    await expect(page.locator("#error")).to_have_attribute("role", "alert")


async def test_a_stream_is_started_and_stopped_with_the_keyboard_alone(page: Page, gateway: Any) -> None:
    gateway.script(state="live")
    await page.keyboard.press("Tab")
    await expect(page.locator("#source")).to_be_focused()
    await page.keyboard.press("ArrowDown")
    await expect(page.locator("#source")).to_have_value("test")
    for _ in range(2):
        await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#state")).to_have_text("Live.")
    await expect(page.locator("#stop")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#start")).to_be_enabled()
    await expect(page.locator("#start")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_stands_out_from_its_ground(page: Page, scheme: Literal["light", "dark"]) -> None:
    await page.emulate_media(color_scheme=scheme)
    await page.evaluate("document.getElementById('error').hidden = false")
    await page.evaluate("document.getElementById('error').textContent = 'words'")
    await page.click("summary")
    assert await page.evaluate(LOW_CONTRAST) == []


@pytest.mark.parametrize("path", ["", "watch?stream=show"])
async def test_a_phone_never_scrolls_sideways(browser: Browser, gateway: Any, path: str) -> None:
    context = await browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True)
    page = await context.new_page()
    await page.goto(gateway.url + path)
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    await context.close()


async def test_nothing_is_loaded_from_elsewhere(page: Page, gateway: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.reload()
    assert asked
    assert all(url.startswith((gateway.url, "data:")) for url in asked)
