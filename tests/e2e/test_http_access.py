"""Who gets in: tokens, limits, the operator's webhook and heartbeat, over https, on one daemon for all."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.devnet.orchestrator.tls import self_signed
from harness.gateway import GatewayProcess, gateway_process
from harness.waiting import eventually
from tests.e2e.sessions import PUBLISH, SDP, WATCH

PUBLISH_TOKENS = """
all
cams streams=cam*      # only these
one streams=one-* maxStreams=1
poor maxSessionSpend=1
"""
PLAY_TOKENS = "viewer\nfew maxViewers=1\n"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class House:
    """The gateway with its files, and the operator's server beside it."""

    gateway: GatewayProcess
    folder: Path
    trust: ssl.SSLContext
    asked: list[dict[str, Any]] = field(default_factory=list)
    verdict: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    live: list[str] = field(default_factory=list)
    terminated: list[str] = field(default_factory=list)

    async def request(
        self, method: str, path: str, token: str | None = None, **options: Any
    ) -> aiohttp.ClientResponse:
        headers = options.pop("headers", {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        url = self.gateway.url + path.lstrip("/")
        async with self.gateway.http.request(
            method, url, headers=headers, ssl=self.trust, **options
        ) as response:
            await response.read()
            return response

    async def publish(self, name: str, token: str | None, query: str = "") -> aiohttp.ClientResponse:
        path = f"live/video-to-video/{name}/whip{query}"
        return await self.request("POST", path, token, data=PUBLISH, headers=SDP)

    async def watch(self, name: str, token: str | None) -> aiohttp.ClientResponse:
        path = f"live/video-to-video/{name}/whep"
        return await self.request("POST", path, token, data=WATCH, headers=SDP)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("access")
    (folder / "publish").write_text(PUBLISH_TOKENS)
    (folder / "play").write_text(PLAY_TOKENS)
    (folder / "tls.pem").write_bytes(self_signed("127.0.0.1"))
    house: House | None = None

    async def decide(request: web.Request) -> web.Response:
        assert house is not None
        house.asked.append(await request.json())
        return web.json_response(house.verdict, status=house.status)

    async def beat(request: web.Request) -> web.Response:
        ids = (await request.json())["ids"]
        if house is None:
            return web.json_response({})
        house.live = ids
        return web.json_response({"terminatedStreamIds": house.terminated})

    app = web.Application()
    app.add_routes([web.post("/decide", decide), web.post("/beat", beat)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    operator = f"http://127.0.0.1:{runner.addresses[0][1]}"
    flags = (
        *("-orchestrators", "1"),
        *("-publishTokens", str(folder / "publish"), "-playTokens", str(folder / "play")),
        *("-httpsCert", str(folder / "tls.pem"), "-httpsKey", str(folder / "tls.pem")),
        *("-liveAIAuthWebhookUrl", operator + "/decide"),
        *("-liveAIHeartbeatURL", operator + "/beat", "-liveAIHeartbeatInterval", "200ms"),
        *("-maxStreams", "3", "-maxViewersPerStream", "2"),
    )
    async with gateway_process(folder, *flags) as gateway:
        house = House(gateway, folder, ssl.create_default_context(cafile=folder / "tls.pem"))
        yield house
    await runner.cleanup()


@pytest_asyncio.fixture(loop_scope="module")
async def house(running: House) -> AsyncIterator[House]:
    """The house, with nobody in it before and after."""
    running.asked.clear()
    running.verdict, running.status, running.terminated = {}, 200, []
    yield running
    for name in [asked["stream"] for asked in running.asked]:
        status = await running.request("GET", f"live/video-to-video/{name}/status")
        if status.status == 200:
            session = (await status.json())["gateway_status"]["request_id"]
            await running.request("DELETE", f"live/video-to-video/{name}/whip/{session}", "all")

    async def nobody() -> bool:
        state = await (await running.request("GET", "debug/state")).json()
        return bool(state["peers"] == 0)

    await eventually(nobody, what="everybody's leaving")


async def code(response: aiohttp.ClientResponse) -> tuple[int, str]:
    return response.status, (await response.json(content_type=None))["code"]


async def test_publishing_takes_a_token_for_that_stream(house: House) -> None:
    for token in (None, "", "stranger", "viewer"):
        refused = await house.publish("cam", token)
        assert await code(refused) == (401, "unauthorized")
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert await code(await house.publish("door", "cams")) == (403, "forbidden")
    assert await code(await house.publish("cam", "cams", "?streamId=door")) == (403, "forbidden")
    assert not house.asked  # a stranger never reaches the operator's server
    assert (await house.publish("cam", "cams")).status == 201


async def test_a_publisher_is_steered_and_stopped_with_its_token_only(house: House) -> None:
    created = await house.publish("cam", "cams", "?streamId=cam-id")
    location = created.headers["Location"]
    for method, path in [
        ("DELETE", location),
        ("PATCH", location),
        ("POST", "live/video-to-video/cam/update"),
        ("POST", "live/video-to-video/cam-id/update"),
    ]:
        assert await code(await house.request(method, path)) == (401, "unauthorized")
        assert await code(await house.request(method, path, "one")) == (403, "forbidden")
    for name in ("cam", "cam-id"):
        updated = await house.request("POST", f"live/video-to-video/{name}/update", "cams", json={"a": 1})
        assert updated.status == 200
    assert (await house.request("DELETE", location, "cams")).status == 200


async def test_watching_takes_a_play_token(house: House) -> None:
    for token in (None, "all"):
        assert await code(await house.watch("cam", token)) == (401, "unauthorized")
    created = await house.watch("cam", "viewer")
    assert created.status == 201
    location = created.headers["Location"]
    assert await code(await house.request("DELETE", location)) == (401, "unauthorized")
    assert (await house.request("DELETE", location, "viewer")).status == 200


@pytest.mark.parametrize("path", ["", "watch", "healthz", "readyz", "live/video-to-video/cam/status"])
async def test_the_rest_is_open(path: str, house: House) -> None:
    assert (await house.request("GET", path)).status in (200, 404)
    for kind in ("whip", "whep", "update", "whip/0"):
        assert (await house.request("OPTIONS", f"live/video-to-video/cam/{kind}")).status == 204


async def test_tokens_change_while_the_gateway_runs(house: House) -> None:
    path = house.folder / "publish"
    try:
        path.write_text(PUBLISH_TOKENS + "new-one\n")
        assert (await house.publish("cam", "new-one")).status == 201
        path.write_text(PUBLISH_TOKENS)
        assert await code(await house.publish("cam2", "new-one")) == (401, "unauthorized")
    finally:
        path.write_text(PUBLISH_TOKENS)


async def test_limits_are_named_in_the_refusal_and_free_again_at_the_end(house: House) -> None:
    first = await house.publish("one-1", "one")
    assert first.status == 201
    refused = await house.publish("one-2", "one")
    assert await code(refused) == (429, "limit_reached")
    assert "maxStreams of this token (1)" in (await refused.json(content_type=None))["detail"]
    assert (await house.publish("cam1", "all")).status == 201
    assert (await house.publish("cam2", "all")).status == 201
    refused = await house.publish("cam3", "all")
    assert (await refused.json(content_type=None))["limit"] == "-maxStreams"
    assert refused.headers["Retry-After"]
    await house.request("DELETE", first.headers["Location"], "one")

    async def admitted() -> bool:
        return (await house.publish("one-3", "one")).status == 201

    await eventually(admitted, what="the freed place")


async def test_viewers_are_limited_by_stream_and_by_token(house: House) -> None:
    locations = []
    for token in ("viewer", "few"):
        created = await house.watch("cam", token)
        assert created.status == 201
        locations.append(created.headers["Location"])
    assert (await (await house.watch("cam", "viewer")).json(content_type=None))[
        "limit"
    ] == "-maxViewersPerStream"
    refused = await (await house.watch("other", "few")).json(content_type=None)
    assert refused["limit"] == "maxViewers of this token"
    for location in locations:
        await house.request("DELETE", location, "viewer")

    async def admitted() -> bool:
        created = await house.watch("cam", "few")
        if created.status == 201:
            await house.request("DELETE", created.headers["Location"], "few")
        return created.status == 201

    await eventually(admitted, what="the freed place")


async def test_the_webhook_is_asked_before_the_answer_and_decides(house: House) -> None:
    house.verdict = {"stream_id": "chosen", "pipeline": "comfyui", "pipeline_parameters": {"1": {}}}
    assert (await house.publish("cam", "all", "?params=%7B%7D&x=1")).status == 201
    (asked,) = house.asked
    base = house.gateway.url.rstrip("/") + "/live/video-to-video"
    assert asked == {
        "type": "livepeer-whip",
        "stream": "cam",
        "stream_key": "cam",
        "query_params": "params=%7B%7D&x=1",
        "gateway_host": house.gateway.url.removeprefix("https://").rstrip("/"),
        "whep_url": f"{base}/cam/whep",
        "update_url": f"{base}/cam/update",
        "status_url": f"{base}/cam/status",
    }
    assert (await house.request("GET", "live/video-to-video/chosen/status")).status == 200


async def test_what_the_webhook_refuses_never_begins(house: House) -> None:
    house.status = 401
    assert await code(await house.publish("cam", "all")) == (403, "refused_by_webhook")
    assert (await house.request("GET", "live/video-to-video/cam/status")).status in (200, 404)
    state = await (await house.request("GET", "debug/state")).json()
    assert state["streams"] == 0


async def test_the_webhook_may_ask_for_a_model_that_nobody_offers(house: House) -> None:
    house.verdict = {"pipeline": "ignore-of"}
    refused = await house.publish("cam", "all")
    problem = await refused.json(content_type=None)
    assert (refused.status, problem["code"]) == (503, "no_orchestrator")
    assert problem["candidates"][0]["verdict"] == "model_not_offered"


@pytest.mark.parametrize("pipeline", ["", "comfyui", "live-video-to-video", "comfystream"])
async def test_some_names_mean_the_gateways_own_pipeline(pipeline: str, house: House) -> None:
    assert (await house.publish("cam", "all", f"?pipeline={pipeline}")).status == 201


async def test_limits_of_a_token_or_of_the_webhook_hold_for_the_stream(house: House) -> None:
    assert await code(await house.publish("cam", "poor")) == (402, "spend_limit")
    house.verdict = {"maxSessionSpend": "1"}
    assert await code(await house.publish("cam", "all")) == (402, "spend_limit")
    house.verdict = {"maxSessionSpend": "1000ETH"}  # more than the token allows is not given
    assert await code(await house.publish("cam", "poor")) == (402, "spend_limit")


@pytest.mark.parametrize(("query", "verdict"), [("true", None), ("true", False), ("false", True)])
async def test_the_webhook_has_the_last_word_on_whether_a_job_stands_by(
    query: str, verdict: bool | None, house: House
) -> None:
    house.verdict = {} if verdict is None else {"standby": verdict}
    assert (await house.publish("cam", "all", f"?standby={query}")).status == 201
    status = await (await house.request("GET", "live/video-to-video/cam/status")).json()
    expected = query == "true" if verdict is None else verdict
    assert (status["gateway_status"]["standby"] is not None) == expected


async def test_the_heartbeat_ends_streams(house: House) -> None:
    await house.publish("cam", "all", "?streamId=tell")
    await eventually(lambda: house.live == ["tell"], what="a heartbeat with the stream")
    house.terminated = ["tell", "unknown"]

    async def terminated() -> bool:
        status = await house.request("GET", "live/video-to-video/cam/status")
        ended = (await status.json())["gateway_status"]["ended"]
        return bool(ended and ended["reason"] == "terminated")

    await eventually(terminated, what="the stream's end")
