"""Every failure is explained in a sentence, and leaves the page ready for another start."""

from __future__ import annotations

import re
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Page, expect

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEAR = [
    {
        "url": "https://dear.example:8935",
        "price_wei_per_second": "3000000000000000",
        "verdict": "price_above_max",
        "detail": "",
    },
    {
        "url": "https://less-dear.example:8935",
        "price_wei_per_second": "2000000000000000",
        "verdict": "price_above_max",
        "detail": "",
    },
    {
        "url": "https://gone.example:8935",
        "price_wei_per_second": None,
        "verdict": "unreachable",
        "detail": "no answer within 1.5 s",
    },
]


async def start(page: Page, source: str = "test") -> None:
    await page.select_option("#source", source)
    await page.select_option("#resolution", "640x360")
    await page.click("#start")


def refusal(status: int, code: str, detail: str = "", **members: Any) -> web.Response:
    body = {"title": code, "status": status, "code": code, "detail": detail, **members}
    return web.json_response(body, status=status, content_type="application/problem+json")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((409, "name_taken"), "Someone is already publishing under this name"),
        ((401, "unauthorized"), "This gateway asks for a token"),
        ((403, "forbidden", "for the stream 'a'"), r"not for this stream.*\(for the stream 'a'\)"),
        ((402, "spend_limit", "1ETH is spent"), r"spending limit is reached.*\(1ETH is spent\)"),
        ((406, "no_common_codec", "H264 only"), "takes H.264 video only"),
        ((503, "draining"), "is shutting down"),
        ((503, "a_new_code"), "takes no new streams at the moment"),
        ((429, "too_many_requests"), "Too many requests"),
        ((418, "a_new_code", "it is a teapot"), "The gateway refused: it is a teapot"),
    ],
)
async def test_a_refusal_is_a_sentence_and_start_is_offered_again(
    page: Page, gateway: Any, answer: tuple[Any, ...], sentence: str
) -> None:
    gateway.refusal = refusal(*answer)
    await start(page)
    await expect(page.locator("#error")).to_be_visible()
    await expect(page.locator("#error")).to_contain_text(re.compile(sentence))
    await expect(page.locator("#start")).to_be_enabled()
    await expect(page.locator("#stop")).to_be_disabled()
    await expect(page.locator("#state")).to_have_attribute("data-state", "idle")


async def test_no_orchestrator_under_the_price_names_the_cheapest_and_lists_them_all(
    page: Page, gateway: Any
) -> None:
    gateway.refusal = refusal(503, "no_orchestrator", "long technical words", candidates=DEAR)
    await start(page)
    error = page.locator("#error")
    await expect(error).to_contain_text("No orchestrator is under the highest price")
    await expect(error).to_contain_text("The cheapest asks 7.2 ETH an hour (0.002 ETH a second)")
    rows = page.locator("#candidates tr")
    await expect(rows).to_have_count(3)
    await expect(rows.nth(0)).to_contain_text("10.8 ETH")
    await expect(rows.nth(0)).to_contain_text("asks more than this gateway pays")
    await expect(rows.nth(2)).to_contain_text("did not answer")
    await expect(rows.nth(2)).to_contain_text("no answer within 1.5 s")


async def test_orchestrators_without_capacity_are_not_blamed_on_the_price(page: Page, gateway: Any) -> None:
    full = {**DEAR[0], "verdict": "no_capacity"}
    gateway.refusal = refusal(503, "no_orchestrator", candidates=[full, DEAR[2]])
    await start(page)
    await expect(page.locator("#error")).to_contain_text("dear.example:8935 has no free capacity")


async def test_a_gateway_that_knows_no_orchestrator_says_so(page: Page, gateway: Any) -> None:
    gateway.refusal = refusal(503, "no_orchestrator", "none is known as 'me'", candidates=[])
    await start(page)
    await expect(page.locator("#error")).to_contain_text("knows no orchestrator for this stream")
    await expect(page.locator("#error")).to_contain_text("none is known as 'me'")


async def test_a_deposit_that_is_missing_is_to_be_funded_and_not_tried_again(
    page: Page, gateway: Any
) -> None:
    poor = {**DEAR[0], "verdict": "unfunded", "detail": "no deposit"}
    gateway.refusal = refusal(503, "unfunded", "the address 0x1 has no deposit", candidates=[poor])
    await start(page)
    error = page.locator("#error")
    await expect(error).to_contain_text(re.compile(r"Fund its deposit.*\(the address 0x1 has no deposit\)"))
    await expect(error).not_to_contain_text("Try again")
    await expect(page.locator("#candidates tr").first).to_contain_text("cannot be paid")


async def test_a_pipeline_that_nobody_offers_is_not_tried_again(page: Page, gateway: Any) -> None:
    other = [{**one, "verdict": "model_not_offered"} for one in DEAR]
    gateway.refusal = refusal(503, "no_orchestrator", candidates=other)
    await start(page)
    await expect(page.locator("#error")).to_contain_text("No orchestrator offers this pipeline")


async def test_a_proxy_that_answers_html_is_still_put_into_words(page: Page, gateway: Any) -> None:
    gateway.refusal = web.Response(status=502, text="<h1>Bad gateway</h1>", content_type="text/html")
    await start(page)
    await expect(page.locator("#error")).to_contain_text("The gateway refused: the answer was 502")


async def test_a_network_that_is_gone_is_said(page: Page) -> None:
    await page.context.set_offline(True)
    await start(page)
    await expect(page.locator("#error")).to_contain_text("The gateway cannot be reached")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("NotAllowedError", "The camera was refused"),
        ("NotFoundError", "There is no camera"),
        ("NotReadableError", "in use by another program"),
        ("OverconstrainedError", "The camera could not be opened"),
    ],
)
async def test_a_camera_that_gives_no_picture_is_said(page: Page, name: str, sentence: str) -> None:
    await page.evaluate(
        "name => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', name)) }",
        name,
    )
    await start(page, "camera")
    await expect(page.locator("#error")).to_contain_text(sentence)
    await expect(page.locator("#start")).to_be_enabled()


async def test_an_insecure_address_is_named_as_the_cause(page: Page) -> None:
    # What browsers do on plain http: there are no mediaDevices at all.
    await page.evaluate("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
    await start(page, "camera")
    await expect(page.locator("#error")).to_contain_text("https:// or on localhost")


async def test_a_refused_microphone_is_told_apart_and_stops_the_camera(page: Page) -> None:
    await page.evaluate(
        """() => {
          const devices = navigator.mediaDevices, open = devices.getUserMedia.bind(devices);
          devices.getUserMedia = async (wanted) => {
            if (wanted.audio) throw new DOMException("", "NotAllowedError");
            return (window.opened = await open(wanted));
          };
        }"""
    )
    await page.check("#microphone")
    await start(page, "camera")
    await expect(page.locator("#error")).to_contain_text("The microphone was refused")
    assert await page.evaluate("window.opened.getTracks().every((t) => t.readyState === 'ended')")


async def test_broken_parameters_are_said_before_anything_starts(page: Page, gateway: Any) -> None:
    await page.fill("#params", '{"strength": ')
    await start(page)
    await expect(page.locator("#error")).to_contain_text("The parameters are not valid JSON")
    assert gateway.offers == []


async def test_a_name_that_streams_may_not_have_is_stopped_by_the_form(page: Page, gateway: Any) -> None:
    await page.fill("#stream-name", "no spaces allowed")
    await start(page)
    assert await page.evaluate("!document.getElementById('stream-name').validity.valid")
    assert gateway.offers == []
