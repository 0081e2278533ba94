"""The page's small modules on their own: parameters, URLs, codecs, rates, delay, words."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page

from gateway.candidates.verdict import Verdict
from gateway.http.problem import ProblemCode
from gateway.payments.status import PaymentState
from gateway.reason import EndReason
from gateway.stream.stream import State
from tests.pages.conftest import opened, scripted_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(desktop: BrowserContext) -> AsyncIterator[Page]:
    """One page for all: the modules are only imported on it."""
    async with scripted_gateway() as gateway, opened(desktop, gateway) as page:
        yield page


async def call(page: Page, module: str, name: str, *args: Any) -> Any:
    script = """async ([module, name, ...args]) => {
      const found = await import(new URL(`pages/${module}`, document.baseURI));
      try { return await found[name](...args); } catch (error) { return `${error.name}: ${error.message}`; }
    }"""
    return await page.evaluate(script, [module, name, *args])


async def test_plain_words_are_a_prompt_and_json_objects_go_out_as_they_are(page: Page) -> None:
    assert await call(page, "params.js", "parseParams", "  ") == {}
    assert await call(page, "params.js", "parseParams", " a red fox ") == {"prompt": "a red fox"}
    assert await call(page, "params.js", "parseParams", '{"strength": 0.5}') == {"strength": 0.5}


@pytest.mark.parametrize("text", ['{"strength": }', "[1, 2]"])
async def test_broken_parameters_are_a_sentence(page: Page, text: str) -> None:
    said = await call(page, "params.js", "parseParams", text)
    assert said.startswith("SyntaxError: The parameters")


@pytest.mark.parametrize("prefix", ["", "/media/gateway"])
async def test_every_url_stays_below_the_path_prefix(desktop: BrowserContext, prefix: str) -> None:
    script = """async () => {
      const { streamUrl, watchUrl } = await import(new URL("pages/endpoints.js", document.baseURI));
      return [streamUrl("a", "whip", { pipeline: "p q", params: "" }), watchUrl("a", "secret")].map(
        (url) => url.pathname + url.search + url.hash
      );
    }"""
    async with scripted_gateway(prefix) as gateway, opened(desktop, gateway) as page:
        whip, watch = await page.evaluate(script)
    assert whip == f"{prefix}/live/video-to-video/a/whip?pipeline=p+q"
    assert watch == f"{prefix}/watch?stream=a#token=secret"


async def test_a_created_stream_has_the_urls_and_tokens_of_the_answer(page: Page) -> None:
    script = """async () => {
      const { LiveStream } = await import(new URL("pages/livestream.js", document.baseURI));
      const stream = LiveStream.created({
        whip_url: "https://g.example/media/live/video-to-video/a/whip", events_url: "/elsewhere",
        publish_token: "p", play_token: "w",
      }, "https://g.example/");
      return [stream.name, stream.urls.update.href, stream.urls.events.href, stream.tokens];
    }"""
    assert await page.evaluate(script) == [
        "a",
        "https://g.example/media/live/video-to-video/a/update",
        "https://g.example/elsewhere",
        {"publish": "p", "play": "w"},
    ]


async def test_h264_in_packetization_mode_1_comes_first_and_nothing_is_lost(page: Page) -> None:
    codecs = [
        {"mimeType": "video/VP8"},
        {"mimeType": "video/H264", "sdpFmtpLine": "packetization-mode=0"},
        {"mimeType": "video/rtx"},
        {"mimeType": "video/H264", "sdpFmtpLine": "profile-level-id=42e01f;packetization-mode=1"},
    ]
    ordered = await call(page, "peer.js", "h264First", codecs)
    assert ordered == [codecs[3], codecs[1], codecs[0], codecs[2]]


async def test_rates_are_what_came_between_two_looks(page: Page) -> None:
    script = """async () => {
      const { RateMeter, bitrateText } = await import(new URL("pages/stats.js", document.baseURI));
      const meter = new RateMeter();
      const first = meter.measure({ timestamp: 1000, framesEncoded: 10, bytesSent: 1000 });
      const size = { frameWidth: 1280, frameHeight: 720 };
      const look = { timestamp: 3000, framesEncoded: 70, bytesSent: 501000, ...size };
      const { fps, bitrate, width } = meter.measure(look);
      return [first, fps, bitrate, width, bitrateText(bitrate), bitrateText(640_000)];
    }"""
    assert await page.evaluate(script) == [None, 30, 2_000_000, 1280, "2.0 Mbit/s", "640 kbit/s"]


def motion(seed: int, *, shift_ms: float, loss: float = 0.0, noise: float = 0.0) -> list[dict[str, float]]:
    """Motion samples of twelve seconds of a picture that rests and leaps, `shift_ms` late."""
    moves, chance = random.Random(seed), random.Random(seed + 1)
    samples = []
    left = 0
    for frame in range(360):
        if left <= 0:
            left = moves.randint(8, 30)
        left -= 1
        change = 40.0 if left < 6 else 2.0
        if chance.random() >= loss:
            at = 10_000 + frame * 1000 / 30 + shift_ms
            samples.append({"at": at, "change": change + chance.random() * noise})
    return samples


@pytest.mark.parametrize("delay_ms", [0, 100, 850, 2400])
async def test_the_delay_is_found_in_the_rhythm_of_the_pictures(page: Page, delay_ms: int) -> None:
    source = motion(7, shift_ms=0)
    result = motion(7, shift_ms=delay_ms, loss=0.1, noise=8)
    found = await call(page, "delay.js", "delayBetween", source, result)
    assert abs(found - delay_ms) <= 50


def pictures(seed: int) -> list[list[int]]:
    """Twelve seconds at 30 frames a second of a bright spot that rests and leaps: RGBA in a row."""
    moves, frames = random.Random(seed), []
    spot = target = left = 0
    for _ in range(360):
        if left <= 0:
            target, left = moves.randrange(28), moves.randint(8, 30)
        left -= 1
        spot += max(-4, min(4, target - spot))
        row = [220 if spot <= x < spot + 5 else 20 + 3 * x for x in range(32)]
        frames.append([byte for grey in row for byte in (grey, grey, grey, 255)])
    return frames


async def seen(page: Page, frames: list[tuple[float, list[int]]]) -> list[dict[str, float]]:
    """The page's motion samples of pictures that are shown at these milliseconds."""
    script = """async (frames) => {
      const { Motion } = await import(new URL("pages/delay.js", document.baseURI));
      const motion = new Motion();
      const bytes = (pixels) => Uint8ClampedArray.from(pixels);
      const samples = frames.map(([at, pixels]) => ({ at, change: motion.see(at, bytes(pixels)) }));
      return samples.filter(({ change }) => change !== null);
    }"""
    return list(await page.evaluate(script, frames))


@pytest.mark.parametrize(("kept", "late_ms"), [(1.0, 0), (0.5, 100), (0.25, 100)])
async def test_the_delay_is_found_where_a_busy_machine_shows_few_frames_and_those_late(
    page: Page, kept: float, late_ms: int
) -> None:
    chance = random.Random(11)
    shot = [(10_000 + frame * 1000 / 30, picture) for frame, picture in enumerate(pictures(7))]
    shown = [
        (at + 400 + chance.random() * late_ms, [255 - byte for byte in picture])
        for at, picture in shot
        if chance.random() < kept
    ]
    shown.sort(key=lambda frame: frame[0])
    found = await call(page, "delay.js", "delayBetween", await seen(page, shot), await seen(page, shown))
    assert abs(found - 400 - late_ms / 2) <= 75


async def test_a_picture_that_moves_in_turns_has_the_delay_of_the_nearest_turn(page: Page) -> None:
    def turning(shift_ms: float) -> list[dict[str, float]]:
        chance = random.Random(int(shift_ms))
        changes = (40.0 if frame % 30 < 8 else 2.0 for frame in range(360))
        return [
            {"at": 10_000 + frame * 1000 / 30 + shift_ms, "change": change + chance.random() * 8}
            for frame, change in enumerate(changes)
        ]

    found = await call(page, "delay.js", "delayBetween", turning(0), turning(250))
    assert abs(found - 250) <= 50


async def test_a_change_of_the_whole_picture_does_not_hide_the_delay(page: Page) -> None:
    source, result = motion(7, shift_ms=0), motion(7, shift_ms=300)
    for frame in range(30):  # until the new picture is what was there before
        result[200 + frame]["change"] += 600.0 * math.exp(-frame / 9)
    found = await call(page, "delay.js", "delayBetween", source, result)
    assert abs(found - 300) <= 50


async def test_pictures_that_have_nothing_in_common_give_no_delay(page: Page) -> None:
    found = await call(page, "delay.js", "delayBetween", motion(7, shift_ms=0), motion(8, shift_ms=400))
    assert found is None
    assert await call(page, "delay.js", "delayBetween", [], []) is None


NOT_FOR_PAGES = {
    ProblemCode.CROSS_ORIGIN,
    ProblemCode.WRONG_HOST,
    ProblemCode.ICE_RESTART,
    ProblemCode.IF_MATCH_FAILED,
    ProblemCode.IF_MATCH_MISSING,
    ProblemCode.KEY_USED,
    ProblemCode.METHOD_NOT_ALLOWED,
    ProblemCode.UNKNOWN_SESSION,
}
"""Problems of what the pages never do: they send no PATCH, create no streams, and are the gateway's own."""


@pytest.mark.parametrize(
    ("table", "keys"),
    [
        ("END_REASONS", set(EndReason)),
        ("VERDICTS", set(Verdict)),
        ("PROBLEMS", set(ProblemCode) - NOT_FOR_PAGES),
        ("PAYMENT_STATES", set(get_args(PaymentState))),
    ],
)
async def test_all_that_the_gateway_may_say_has_words(page: Page, table: str, keys: set[str]) -> None:
    said = await page.evaluate(
        'table => import(new URL("pages/messages.js", document.baseURI)).then((words) => words[table])', table
    )
    assert set(said) == {str(key) for key in keys}
    assert all(said.values())
    if table != "VERDICTS":
        assert all(sentence.endswith(".") for sentence in said.values())


async def test_every_state_of_a_stream_has_words(page: Page) -> None:
    said = await page.evaluate(
        'import(new URL("pages/messages.js", document.baseURI)).then(({ STATES }) => STATES)'
    )
    assert set(said) >= {str(state) for state in State}


@pytest.mark.parametrize(
    ("effect", "through", "devnet", "sent"),
    [
        ("", "comfystream", {"ownServers": True}, set()),
        ("grey", "network", {"ownServers": True, "runners": True}, {"effect"}),
        ("grey", "comfystream", {"ownServers": True, "runners": True}, {"prompts"}),
        ("grey", "runner", {"ownServers": True, "runners": True}, {"mode"}),
        ("mirror", "runner", {"runners": True}, set()),
        ("grey", "", {"ownServers": True, "runners": True}, {"effect", "mode", "prompts"}),
        ("grey", "", {}, {"effect"}),
    ],
)
async def test_an_effect_goes_to_whoever_takes_the_stream(
    page: Page, effect: str, through: str, devnet: dict[str, bool], sent: set[str]
) -> None:
    params = await call(page, "params.js", "effectParams", effect, through, devnet)
    assert set(params) == sent
    if "prompts" in sent:
        assert params["prompts"]["1"] == {"class_type": "Effect", "inputs": {"effect": effect}}
    assert params.get("mode") == ("gray" if "mode" in sent else None)
