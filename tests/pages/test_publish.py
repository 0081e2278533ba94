"""From Start to Stop in a real browser, with real media and a scripted status."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from playwright.async_api import Page, expect

pytestmark = pytest.mark.asyncio(loop_scope="module")

PRICE = 10**15
CANDIDATES = [
    {
        "url": "https://near.example:8935",
        "price_wei_per_second": str(PRICE),
        "verdict": "chosen",
        "detail": "",
    },
    {
        "url": "https://dear.example:8935",
        "price_wei_per_second": str(2 * PRICE),
        "verdict": "price_above_max",
        "detail": "",
    },
]


NOTE_ENDS = """() => {
  window.ends = [];
  const { close } = RTCPeerConnection.prototype;
  RTCPeerConnection.prototype.close = function () {
    if (this.getSenders().some((sender) => sender.track)) ends.push("closed");
    return close.call(this);
  };
  const { fetch } = window;
  window.fetch = async (url, options) => {
    const response = await fetch(url, options);
    if (options.method === "DELETE" && /whip/.test(url)) ends.push("DELETE answered");
    return response;
  };
}"""
"""Notes how the publisher's session ends, in `ends`."""


def payments(accepted: int, *, tickets: int, owed: int) -> dict[str, Any]:
    return {
        "accepted": accepted,
        "tickets": tickets,
        "credited_wei": str(tickets * PRICE),
        "owed_wei": str(owed),
        "last_accepted_age_s": 0.4,
        "next_due_in_s": 0.6,
        "credit_left_s": 59.2,
        "state": "ok",
    }


def problem(status: int) -> web.Response:
    body = {"title": "refused", "status": status, "code": "refused", "detail": ""}
    return web.json_response(body, status=status, content_type="application/problem+json")


async def start(page: Page, source: str = "test") -> None:
    await page.select_option("#source", source)
    await page.select_option("#resolution", "640x360")
    await page.click("#start")


def go_live(gateway: Any) -> None:
    gateway.script(
        state="live",
        elapsed_s=1.0,
        candidates=CANDIDATES,
        orchestrator={"url": CANDIDATES[0]["url"], "price_wei_per_second": str(PRICE)},
        payments=payments(1, tickets=60, owed=PRICE),
        output={"viewers": 1, "gaps": 0},
        ingest={"packets_lost": 0},
    )


async def playing(page: Page, video: str) -> None:
    await page.wait_for_function(
        "id => { const v = document.getElementById(id); return v.videoWidth > 0 && v.currentTime > 0.3; }",
        arg=video,
    )


@pytest.mark.parametrize("source", ["test", "camera"])
async def test_a_picture_is_published_and_its_result_is_watched(
    page: Page, gateway: Any, source: str
) -> None:
    go_live(gateway)
    await page.fill("#stream-name", "show")
    await page.fill("#pipeline", "comfystream")
    await page.fill("#params", '{"strength": 0.5}')
    await start(page, source)
    await playing(page, "source-video")
    await playing(page, "result-video")
    await expect(page.locator("#state")).to_have_text("Live.")
    await expect(page.locator("#source-fps")).to_contain_text("fps")
    await expect(page.locator("#result-fps")).to_contain_text("fps")
    await expect(page.locator("#result-size")).to_contain_text("×")
    assert gateway.queries == [{"pipeline": "comfystream", "params": '{"strength":0.5}'}]
    await page.click("#stop")
    await expect(page.locator("#start")).to_be_enabled()
    assert "/live/video-to-video/show/whip/r1?resume=false" in gateway.deleted
    assert "/live/video-to-video/show/whep/v1" in gateway.deleted


@pytest.mark.parametrize("through", ["", "network", "runner", "comfystream"])
async def test_a_stream_goes_the_way_that_is_chosen(page: Page, gateway: Any, through: str) -> None:
    gateway.script(
        state="live",
        orchestrator={"url": "http://gpu:8889", "kind": "comfystream", "price_wei_per_second": "0"},
    )
    await page.click("summary")
    await page.select_option("#through", through)
    await start(page)
    await gateway.until(lambda: gateway.queries)
    assert gateway.queries[0].get("orchestrator", "") == through
    await expect(page.locator("#payment-state")).to_contain_text("Nothing is paid")
    await expect(page.locator("#price-hour")).to_have_text("free")


async def test_the_offer_is_complete_and_puts_h264_first(page: Page, gateway: Any) -> None:
    await start(page)
    await gateway.until(lambda: bool(gateway.offers))
    (offer,) = gateway.offers
    media = re.search(r"^m=video \d+ \S+ (\d+)", offer, re.MULTILINE)
    assert media is not None
    assert re.search(rf"^a=rtpmap:{media[1]} H264/90000", offer, re.MULTILINE)
    assert "a=candidate:" in offer
    assert "m=audio" not in offer


async def test_the_microphone_goes_along_when_it_is_wanted(page: Page, gateway: Any) -> None:
    await page.check("#microphone")
    await start(page)
    await gateway.until(lambda: bool(gateway.offers))
    assert "m=audio" in gateway.offers[0]


async def test_the_delay_of_the_result_is_measured(page: Page, gateway: Any) -> None:
    go_live(gateway)
    await start(page)
    await expect(page.locator("#delay")).to_have_text(re.compile(r"^[0-4]\.\d\d s$"))


async def test_cost_payments_and_orchestrators_follow_the_status(page: Page, gateway: Any) -> None:
    go_live(gateway)
    await start(page)
    await expect(page.locator("#cost-eth")).to_have_text("0.06 ETH")
    await expect(page.locator("#payments")).to_have_text("1")
    gateway.script(elapsed_s=4.0, payments=payments(3, tickets=63, owed=4 * PRICE + 1))
    await expect(page.locator("#payments")).to_have_text("3")
    await expect(page.locator("#cost-eth")).to_have_text("0.063 ETH")
    assert re.sub(r"\s", "", await page.inner_text("#cost-wei")) == "63000000000000000wei"
    assert re.sub(r"\s", "", await page.inner_text("#owed-wei")) == "4000000000000001wei"
    await expect(page.locator("#price-hour")).to_have_text("3.6 ETH")
    entries = page.locator("#payment-log li")
    await expect(entries).to_have_count(2)
    await expect(entries.first).to_contain_text("0.003 ETH")
    await expect(entries.first).to_contain_text("2 payments, 3 tickets")
    rows = page.locator("#candidates tr")
    await expect(rows.first).to_contain_text("in use")
    await expect(rows.last).to_contain_text("7.2 ETH")
    await expect(page.locator("#chart")).to_have_attribute(
        "aria-label", "after 4 seconds 0.063 ETH paid, 0.004000000000000001 ETH owed"
    )
    await expect(page.locator("#chart path.paid")).to_have_count(1)
    await expect(page.get_by_role("img", name="ETH paid")).to_be_visible()


async def test_a_live_runner_is_shown_with_its_app_and_gpu(page: Page, gateway: Any) -> None:
    runner = {"url": "https://orch/apps/1/session", "kind": "runner", "price_wei_per_second": str(PRICE)}
    gateway.script(
        state="live",
        orchestrator={**runner, "app": "livepeer-example/echo", "version": "1.2", "gpu": "NVIDIA L4"},
        candidates=[{**runner, "verdict": "chosen", "detail": ""}],
    )
    await start(page)
    row = page.locator("#candidates tr")
    await expect(row).to_contain_text("livepeer-example/echo 1.2 on NVIDIA L4")
    await expect(row).to_contain_text("in use")


async def test_the_final_cost_is_fetched_after_stop(page: Page, gateway: Any) -> None:
    go_live(gateway)
    await start(page)
    await expect(page.locator("#payments")).to_have_text("1")
    ended = {"reason": "deleted", "at": "2025-01-01T00:00:00Z"}
    await page.click("#stop")
    gateway.script(state="ended", ended=ended, payments=payments(2, tickets=65, owed=5 * PRICE))
    await expect(page.locator("#start")).to_be_enabled()
    await expect(page.locator("#cost-eth")).to_have_text("0.065 ETH")
    await expect(page.locator("#state")).to_have_text("Stopped. Nothing more is paid.")
    await expect(page.locator("#payment-state")).to_have_text("Payments have ended.")
    await expect(page.locator("#credit-left")).to_have_text("–")
    await expect(page.locator("#next-payment")).to_have_text("–")


async def test_stop_sends_delete_before_it_closes_the_connection(page: Page, gateway: Any) -> None:
    go_live(gateway)
    await page.evaluate(NOTE_ENDS)
    await start(page)
    await playing(page, "result-video")
    await page.click("#stop")
    await expect(page.locator("#start")).to_be_enabled()
    assert await page.evaluate("ends") == ["DELETE answered", "closed"]


async def test_nobody_is_shown_as_in_use_after_the_end(page: Page, gateway: Any) -> None:
    go_live(gateway)
    await start(page)
    used = page.locator("#candidates tr").first
    await expect(used).to_contain_text("in use")
    gateway.script(state="ended", ended={"reason": "spend_limit", "at": ""})
    await expect(page.locator("#start")).to_be_enabled()
    await expect(used).to_contain_text("was in use until the end")
    await expect(used).not_to_have_attribute("data-verdict", "chosen")


async def test_nobody_is_shown_as_in_use_after_a_gateway_is_gone(page: Page, gateway: Any) -> None:
    go_live(gateway)
    await start(page)
    used = page.locator("#candidates tr").first
    await expect(used).to_contain_text("in use")
    await page.route("**/status", lambda route: route.fulfill(status=404))
    await expect(page.locator("#start")).to_be_enabled()
    await expect(used).to_contain_text("was in use until the end")


async def test_parameters_are_sent_while_live(page: Page, gateway: Any) -> None:
    go_live(gateway)
    await start(page)
    await expect(page.locator("#send-params")).to_be_enabled()
    await expect(page.locator("#state")).to_have_text("Live.")
    await page.fill("#params", "a red fox")
    await page.click("#send-params")
    await expect(page.locator("#params-said")).to_have_text("Sent.")
    assert gateway.updates == [{"prompt": "a red fox"}]
    await page.fill("#params", "[1]")
    await page.click("#send-params")
    await expect(page.locator("#params-said")).to_contain_text("one JSON object")
    assert len(gateway.updates) == 1


async def test_effects_are_offered_on_the_devnet_and_change_at_once(page: Page, gateway: Any) -> None:
    await expect(page.locator("#effects")).to_be_hidden()
    gateway.devnet = True
    go_live(gateway)
    await page.reload()
    await page.select_option("#effect", "negative")
    await start(page)
    await expect(page.locator("#state")).to_have_text("Live.")
    assert json.loads(gateway.queries[0]["params"]) == {"effect": "negative"}
    await page.select_option("#effect", "grey")
    await gateway.until(lambda: gateway.updates == [{"effect": "grey"}])


async def test_tokens_go_where_they_belong(page: Page, gateway: Any) -> None:
    await page.click("summary")
    await page.fill("#publish-token", "may-publish")
    await page.fill("#play-token", "may-watch")
    await page.fill("#stream-name", "show")
    await expect(page.locator("#watch-link")).to_have_attribute(
        "href", f"{gateway.url}watch?stream=show#token=may-watch"
    )
    await start(page)
    await gateway.until(lambda: bool(gateway.authorizations))
    assert gateway.authorizations == ["Bearer may-publish"]


async def test_an_end_that_nobody_asked_for_is_explained(page: Page, gateway: Any) -> None:
    go_live(gateway)
    await start(page)
    await expect(page.locator("#state")).to_have_text("Live.")
    ended = {"reason": "orchestrator_lost", "detail": "its connections broke", "at": "2025-01-01T00:00:00Z"}
    gateway.script(state="ended", ended=ended)
    await expect(page.locator("#error")).to_contain_text("The orchestrator failed")
    await expect(page.locator("#error")).to_contain_text("its connections broke")
    await expect(page.locator("#start")).to_be_enabled()


async def test_an_end_is_explained_even_when_the_media_path_closes_first(page: Page, gateway: Any) -> None:
    go_live(gateway)
    await start(page)
    await playing(page, "source-video")
    await expect(page.locator("#state")).to_have_text("Live.")
    await page.route("**/status", lambda route: route.abort())
    gateway.script(state="ended", ended={"reason": "price_raised", "at": ""})
    await page.unroute("**/status")
    await gateway.publishers[0].close()
    await expect(page.locator("#error")).to_contain_text("The orchestrator raised its price")


async def test_a_media_path_that_closes_without_a_reason_is_said(page: Page, gateway: Any) -> None:
    go_live(gateway)
    await start(page)
    await playing(page, "result-video")
    await gateway.publishers[0].close()
    await expect(page.locator("#error")).to_contain_text("The media connection was lost")
    await expect(page.locator("#start")).to_be_enabled()


async def test_a_result_that_was_cut_off_is_watched_again(page: Page, gateway: Any) -> None:
    go_live(gateway)
    await start(page)
    await playing(page, "result-video")
    await gateway.viewers[0].close()
    await gateway.until(lambda: gateway.watches == 2)
    await playing(page, "result-video")


async def test_a_play_token_that_is_missing_is_said_while_publishing_goes_on(
    page: Page, gateway: Any
) -> None:
    go_live(gateway)
    gateway.play_refusal = problem(401)
    await start(page)
    await expect(page.locator("#error")).to_contain_text("This gateway asks for a token")
    await expect(page.locator("#state")).to_have_text("Live.")


async def test_what_the_gateway_reports_while_live_is_shown_and_taken_back(page: Page, gateway: Any) -> None:
    go_live(gateway)
    gateway.script(error={"error_message": "no picture has come back for 4 s", "error_time": 1})
    await start(page)
    await expect(page.locator("#error")).to_contain_text("no picture has come back")
    gateway.script(error=None)
    await expect(page.locator("#error")).to_be_hidden()


async def test_a_gateway_that_falls_silent_is_said_until_it_answers_again(page: Page, gateway: Any) -> None:
    go_live(gateway)
    await start(page)
    await expect(page.locator("#state")).to_have_text("Live.")
    await page.route("**/status", lambda route: route.abort())
    await expect(page.locator("#error")).to_contain_text("The gateway does not answer")
    await page.unroute("**/status")
    await expect(page.locator("#error")).to_be_hidden()


async def test_a_publisher_whose_name_was_taken_over_is_told(page: Page, gateway: Any) -> None:
    go_live(gateway)
    await start(page)
    await expect(page.locator("#state")).to_have_text("Live.")
    gateway.script(request_id="somebody-else")
    await expect(page.locator("#error")).to_contain_text("Another publisher took over this name")
    await expect(page.locator("#start")).to_be_enabled()


async def test_a_source_that_ends_stops_the_stream(page: Page, gateway: Any) -> None:
    go_live(gateway)
    await start(page, "camera")
    await expect(page.locator("#state")).to_have_text("Live.")
    # What the browser does when the camera is unplugged.
    await page.evaluate(
        """() => {
          const [track] = document.getElementById("source-video").srcObject.getVideoTracks();
          track.dispatchEvent(new Event("ended"));
        }"""
    )
    await expect(page.locator("#error")).to_contain_text("The source ended")
    assert await publishers_end(gateway) == ""


async def publishers_end(gateway: Any) -> str:
    """The query of the publisher's DELETE."""

    def deleted() -> list[str]:
        return [path for path in gateway.deleted if "/whip/" in path]

    await gateway.until(deleted)
    (path,) = deleted()
    return urlsplit(path).query


async def test_leaving_the_page_sends_delete_and_leaves_the_job_to_be_held(page: Page, gateway: Any) -> None:
    go_live(gateway)
    await start(page)
    await expect(page.locator("#state")).to_have_text("Live.")
    await page.goto("about:blank")
    assert await publishers_end(gateway) == ""


async def test_a_reload_keeps_what_the_paid_job_depends_on_and_no_token(page: Page, gateway: Any) -> None:
    await page.click("summary")
    await page.fill("#pipeline", "comfystream")
    await page.select_option("#through", "network")
    await page.fill("#params", "a red fox")
    await page.fill("#publish-token", "s3cret")
    name = await page.input_value("#stream-name")
    for _ in range(2):
        await page.reload()
        assert await page.input_value("#stream-name") == name
    assert "s3cret" not in await page.evaluate("JSON.stringify(sessionStorage)")
    await start(page)
    await gateway.until(lambda: gateway.queries)
    params = '{"prompt":"a red fox"}'
    assert gateway.queries == [{"pipeline": "comfystream", "orchestrator": "network", "params": params}]
    assert gateway.authorizations == [None]


async def test_each_tab_draws_a_name_of_its_own(page: Page, gateway: Any) -> None:
    name = await page.input_value("#stream-name")
    await page.reload()
    # A tab that is duplicated, or opened by this one, starts with a copy of its session storage.
    async with page.expect_popup() as opening:
        await page.evaluate("window.open(location.href) && null")
    other = await opening.value
    await other.wait_for_function("document.getElementById('stream-name')?.value")
    assert await other.input_value("#stream-name") != name


async def test_the_address_names_the_stream_until_the_user_does(page: Page, gateway: Any) -> None:
    await page.goto(gateway.url + "?stream=show")
    assert await page.input_value("#stream-name") == "show"
    await page.fill("#stream-name", "other")
    await page.reload()
    assert await page.input_value("#stream-name") == "other"
    await page.goto(gateway.url + "?stream=third")
    assert await page.input_value("#stream-name") == "third"


async def test_stop_before_the_camera_is_allowed_leaves_nothing_behind(page: Page, gateway: Any) -> None:
    await page.evaluate(
        """() => {
          const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
          navigator.mediaDevices.getUserMedia = async (wanted) => {
            await new Promise((resolve) => (window.allow = resolve));
            return (window.opened = await open(wanted));
          };
        }"""
    )
    await start(page, "camera")
    await page.click("#stop")
    await expect(page.locator("#start")).to_be_enabled()
    await page.evaluate("window.allow()")
    await page.wait_for_function(
        "window.opened && window.opened.getTracks().every((t) => t.readyState === 'ended')"
    )
    assert gateway.offers == []


async def test_a_stream_can_be_started_again(page: Page, gateway: Any) -> None:
    for round_ in (1, 2):
        gateway.script(ended=None)
        go_live(gateway)
        await start(page)
        await playing(page, "result-video")
        await expect(page.locator("#payments")).to_have_text("1")
        await page.click("#stop")
        gateway.script(state="ended", ended={"reason": "deleted", "at": ""})
        await expect(page.locator("#start")).to_be_enabled()
        assert len(gateway.offers) == round_


@pytest.mark.parametrize("prefix", ["/media/gateway"])
async def test_it_all_works_behind_a_path_prefix(page: Page, gateway: Any, prefix: str) -> None:
    go_live(gateway)
    await start(page)
    await playing(page, "result-video")
    await page.click("#stop")
    await gateway.until(lambda: len(gateway.deleted) == 2)
    assert all(path.startswith(prefix) for path in gateway.deleted)


async def test_what_is_wrong_with_the_sending_is_told_in_plain_words(page: Page, gateway: Any) -> None:
    go_live(gateway)
    await start(page)
    await expect(page.locator("#state")).to_have_text("Live.")
    notes = page.locator("#source-notes")
    await expect(notes).to_be_hidden()
    rejected = [{"kind": "audio", "reason": "the offer has PCMU; accepted is opus/48000/2"}]
    ingest = {"packets_lost": 0, "gop_note": "technical", "gop_s": 8.02, "key_frame_age_s": 3.1}
    gateway.script(ingest={**ingest, "rejected": rejected})
    await expect(notes.locator("li")).to_have_count(2)
    await expect(notes).to_contain_text("Key frames come 8 s apart, and none when the gateway asks.")
    await expect(notes).to_contain_text(
        "The gateway does not use the sound: the offer has PCMU; accepted is opus/48000/2."
    )
    gateway.script(ingest={**ingest, "gop_note": None, "rejected": []})
    await expect(notes).to_be_hidden()


async def test_a_cluster_shows_which_node_does_what_and_a_single_gateway_nothing(
    page: Page, gateway: Any
) -> None:
    go_live(gateway)
    await start(page)
    await expect(page.locator("#state")).to_have_text("Live.")
    card = page.locator("#nodes-card")
    await expect(card).to_be_hidden()
    gateway.nodes = [{"name": f"node-{n}", "streams": n, "viewers": 0, "draining": n == 2} for n in (1, 2, 3)]
    gateway.script(node="node-1")
    await page.reload()
    rows = page.locator("#nodes tr")
    await expect(rows).to_have_count(3)
    await expect(rows.nth(1)).to_contain_text("is stopping")
    await start(page)
    await expect(rows.first).to_contain_text("gets your video, has it transformed and pays")
    await expect(rows.last).to_contain_text("serves the result on this page")
    await page.click("#stop")
    await expect(page.locator("#start")).to_be_enabled()
    await expect(rows.last).not_to_contain_text("serves")
    await expect(card).to_be_visible()
