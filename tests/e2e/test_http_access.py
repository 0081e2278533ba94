"""Access: tokens, limits, webhook and heartbeat, over https, on one daemon for all tests."""

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
from harness.serving import serving
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
class Setup:
    """A gateway with its files, and what the operator's server was asked and answers."""

    gateway: GatewayProcess
    folder: Path
    trust: ssl.SSLContext
    asked: list[dict[str, Any]] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
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
        response = await self.request("POST", path, token, data=PUBLISH, headers=SDP)
        self.published += response.headers.getall("Location", [])
        return response

    async def watch(self, name: str, token: str | None) -> aiohttp.ClientResponse:
        path = f"live/video-to-video/{name}/whep"
        return await self.request("POST", path, token, data=WATCH, headers=SDP)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Setup]:
    folder = tmp_path_factory.mktemp("access")
    (folder / "publish").write_text(PUBLISH_TOKENS)
    (folder / "play").write_text(PLAY_TOKENS)
    (folder / "tls.pem").write_bytes(self_signed("127.0.0.1"))
    setup: Setup | None = None

    async def decide(request: web.Request) -> web.Response:
        assert setup is not None
        setup.asked.append(await request.json())
        return web.json_response(setup.verdict, status=setup.status)

    async def beat(request: web.Request) -> web.Response:
        ids = (await request.json())["ids"]
        if setup is None:
            return web.json_response({})
        setup.live = ids
        return web.json_response({"terminatedStreamIds": setup.terminated})

    async with serving(web.post("/decide", decide), web.post("/beat", beat)) as operator:
        flags = (
            *("-publishTokens", str(folder / "publish"), "-playTokens", str(folder / "play")),
            *("-httpsCert", str(folder / "tls.pem"), "-httpsKey", str(folder / "tls.pem")),
            *("-liveAIAuthWebhookUrl", operator + "/decide"),
            *("-liveAIHeartbeatURL", operator + "/beat", "-liveAIHeartbeatInterval", "200ms"),
            *("-maxStreams", "3", "-maxViewersPerStream", "2"),
        )
        async with gateway_process(folder, *flags) as gateway:
            setup = Setup(gateway, folder, ssl.create_default_context(cafile=folder / "tls.pem"))
            yield setup


@pytest_asyncio.fixture(loop_scope="module")
async def setup(running: Setup) -> AsyncIterator[Setup]:
    """The setup without streams and viewers, before and after."""
    running.asked.clear()
    running.verdict, running.status, running.terminated = {}, 200, []
    yield running
    while running.published:
        await running.request("DELETE", running.published.pop(), "all")

    async def idle() -> bool:
        state = await (await running.request("GET", "debug/state")).json()
        return bool(state["peers"] == 0)

    await eventually(idle, what="the end of all sessions")


async def code(response: aiohttp.ClientResponse) -> tuple[int, str]:
    return response.status, (await response.json(content_type=None))["code"]


async def test_publishing_takes_a_token_for_that_stream(setup: Setup) -> None:
    for token in (None, "", "stranger", "viewer"):
        refused = await setup.publish("cam", token)
        assert await code(refused) == (401, "unauthorized")
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert await code(await setup.publish("door", "cams")) == (403, "forbidden")
    assert await code(await setup.publish("cam", "cams", "?streamId=door")) == (403, "forbidden")
    assert not setup.asked  # a stranger never reaches the operator's server
    assert (await setup.publish("cam", "cams")).status == 201


async def test_a_publisher_is_steered_and_stopped_with_its_token_only(setup: Setup) -> None:
    created = await setup.publish("cam", "cams", "?streamId=cam-id")
    location = created.headers["Location"]
    for method, path in [
        ("DELETE", location),
        ("PATCH", location),
        ("POST", "live/video-to-video/cam/update"),
        ("POST", "live/video-to-video/cam-id/update"),
    ]:
        assert await code(await setup.request(method, path)) == (401, "unauthorized")
        assert await code(await setup.request(method, path, "one")) == (403, "forbidden")
    for name in ("cam", "cam-id"):
        updated = await setup.request("POST", f"live/video-to-video/{name}/update", "cams", json={"a": 1})
        assert updated.status == 200
    assert (await setup.request("DELETE", location, "cams")).status == 200


async def test_watching_takes_a_play_token(setup: Setup) -> None:
    for token in (None, "all"):
        assert await code(await setup.watch("cam", token)) == (401, "unauthorized")
    created = await setup.watch("cam", "viewer")
    assert created.status == 201
    location = created.headers["Location"]
    assert await code(await setup.request("DELETE", location)) == (401, "unauthorized")
    assert (await setup.request("DELETE", location, "viewer")).status == 200


@pytest.mark.parametrize("path", ["", "watch", "healthz", "readyz", "live/video-to-video/cam/status"])
async def test_the_rest_is_open(path: str, setup: Setup) -> None:
    assert (await setup.request("GET", path)).status in (200, 404)
    for kind in ("whip", "whep", "update", "whip/0"):
        assert (await setup.request("OPTIONS", f"live/video-to-video/cam/{kind}")).status == 204


async def test_tokens_change_while_the_gateway_runs(setup: Setup) -> None:
    path = setup.folder / "publish"

    async def is_good() -> bool:
        answer = await setup.request("GET", "live/video-to-video/nobody/payments", "new-one")
        return answer.status != 401

    async def is_bad() -> bool:
        return not await is_good()

    assert not await is_good()
    try:
        path.write_text(PUBLISH_TOKENS + "new-one\n")
        await eventually(is_good, what="the file that stands still")
        path.write_text(PUBLISH_TOKENS)
        await eventually(is_bad, what="the file without it")
    finally:
        path.write_text(PUBLISH_TOKENS)


async def test_limits_are_named_in_the_refusal_and_free_again_at_the_end(setup: Setup) -> None:
    first = await setup.publish("one-1", "one")
    assert first.status == 201
    refused = await setup.publish("one-2", "one")
    assert await code(refused) == (429, "limit_reached")
    assert "maxStreams of this token (1)" in (await refused.json(content_type=None))["detail"]
    assert (await setup.publish("cam1", "all")).status == 201
    assert (await setup.publish("cam2", "all")).status == 201
    refused = await setup.publish("cam3", "all")
    assert (await refused.json(content_type=None))["limit"] == "-maxStreams"
    assert refused.headers["Retry-After"]
    await setup.request("DELETE", first.headers["Location"], "one")

    async def admitted() -> bool:
        return (await setup.publish("one-3", "one")).status == 201

    await eventually(admitted, what="the freed place")


async def test_viewers_are_limited_by_stream_and_by_token(setup: Setup) -> None:
    locations = []
    for token in ("viewer", "few"):
        created = await setup.watch("cam", token)
        assert created.status == 201
        locations.append(created.headers["Location"])
    assert (await (await setup.watch("cam", "viewer")).json(content_type=None))[
        "limit"
    ] == "-maxViewersPerStream"
    refused = await (await setup.watch("other", "few")).json(content_type=None)
    assert refused["limit"] == "maxViewers of this token"
    for location in locations:
        await setup.request("DELETE", location, "viewer")

    async def admitted() -> bool:
        created = await setup.watch("cam", "few")
        if created.status == 201:
            await setup.request("DELETE", created.headers["Location"], "few")
        return created.status == 201

    await eventually(admitted, what="the freed place")


async def test_the_webhook_is_asked_before_the_answer_and_decides(setup: Setup) -> None:
    setup.verdict = {"stream_id": "chosen", "pipeline": "comfyui", "pipeline_parameters": {"1": {}}}
    assert (await setup.publish("cam", "all", "?params=%7B%7D&x=1")).status == 201
    (asked,) = setup.asked
    base = setup.gateway.url.rstrip("/") + "/live/video-to-video"
    assert asked == {
        "type": "livepeer-whip",
        "stream": "cam",
        "stream_key": "cam",
        "query_params": "params=%7B%7D&x=1",
        "gateway_host": setup.gateway.url.removeprefix("https://").rstrip("/"),
        "whep_url": f"{base}/cam/whep",
        "update_url": f"{base}/cam/update",
        "status_url": f"{base}/cam/status",
    }
    assert (await setup.request("GET", "live/video-to-video/chosen/status")).status == 200


async def test_what_the_webhook_refuses_never_begins(setup: Setup) -> None:
    setup.status = 401
    assert await code(await setup.publish("cam", "all")) == (403, "refused_by_webhook")
    assert (await setup.request("GET", "live/video-to-video/cam/status")).status in (200, 404)
    state = await (await setup.request("GET", "debug/state")).json()
    assert state["streams"] == 0


async def test_the_webhook_may_ask_for_a_model_that_nobody_offers(setup: Setup) -> None:
    setup.verdict = {"pipeline": "ignore-of"}
    refused = await setup.publish("cam", "all")
    problem = await refused.json(content_type=None)
    assert (refused.status, problem["code"]) == (503, "no_orchestrator")
    assert problem["candidates"][0]["verdict"] == "model_not_offered"


@pytest.mark.parametrize("pipeline", ["", "comfyui", "live-video-to-video", "comfystream"])
async def test_some_names_mean_the_gateways_own_pipeline(pipeline: str, setup: Setup) -> None:
    assert (await setup.publish("cam", "all", f"?pipeline={pipeline}")).status == 201


async def test_limits_of_a_token_or_of_the_webhook_hold_for_the_stream(setup: Setup) -> None:
    assert await code(await setup.publish("cam", "poor")) == (402, "spend_limit")
    setup.verdict = {"maxSessionSpend": "1"}
    assert await code(await setup.publish("cam", "all")) == (402, "spend_limit")
    setup.verdict = {"maxSessionSpend": "1000ETH"}  # more than the token allows is not given
    assert await code(await setup.publish("cam", "poor")) == (402, "spend_limit")


@pytest.mark.parametrize(("query", "verdict"), [("true", None), ("true", False), ("false", True)])
async def test_the_webhook_decides_whether_a_job_stands_by(
    query: str, verdict: bool | None, setup: Setup
) -> None:
    setup.verdict = {} if verdict is None else {"standby": verdict}
    assert (await setup.publish("cam", "all", f"?standby={query}")).status == 201
    status = await (await setup.request("GET", "live/video-to-video/cam/status")).json()
    expected = query == "true" if verdict is None else verdict
    assert (status["gateway_status"]["standby"] is not None) == expected


async def test_the_heartbeat_ends_streams(setup: Setup) -> None:
    await setup.publish("cam", "all", "?streamId=tell")
    await eventually(lambda: setup.live == ["tell"], what="a heartbeat with the stream")
    setup.terminated = ["tell", "unknown"]

    async def terminated() -> bool:
        status = await setup.request("GET", "live/video-to-video/cam/status")
        ended = (await status.json())["gateway_status"]["ended"]
        return bool(ended and ended["reason"] == "terminated")

    await eventually(terminated, what="the stream's end")
