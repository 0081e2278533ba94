"""The auth webhook and the heartbeat, against a server with scripted answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.http.heartbeat import Heartbeat
from gateway.http.problem import Problem
from gateway.http.webhook import AuthWebhook, WebhookAnswer, parse_answer
from gateway.http.webhook_client import MAX_ANSWER_BYTES, ErrorStatus
from gateway.payments.spending import StreamLimits
from harness.pieces import answering_in_pieces
from harness.serving import serving


class Operator:
    """The operator's server: records the questions, answers with `answer`."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[Any] = []
        self.headers: list[Any] = []
        self.answer: Callable[[], web.Response] = lambda: web.json_response({})

    async def handle(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        self.headers.append(request.headers)
        return self.answer()


@pytest_asyncio.fixture
async def operator() -> AsyncIterator[Operator]:
    operator = Operator()
    async with serving(web.post("/", operator.handle)) as url:
        operator.url = url + "/"
        yield operator


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.asyncio
async def test_the_question_carries_the_key_in_both_headers(
    operator: Operator, http: aiohttp.ClientSession
) -> None:
    verdict = await AuthWebhook(http, operator.url, "k3y").ask({"stream": "cam"})
    assert verdict == WebhookAnswer()
    assert operator.bodies == [{"type": "livepeer-whip", "stream": "cam"}]
    assert (operator.headers[0]["x-api-key"], operator.headers[0]["Authorization"]) == ("k3y", "k3y")


@pytest.mark.asyncio
async def test_the_key_beats_a_password_in_the_url(operator: Operator, http: aiohttp.ClientSession) -> None:
    with_password = operator.url.replace("://", "://user:password@")
    assert await AuthWebhook(http, with_password, "k3y").ask({}) == WebhookAnswer()
    assert await AuthWebhook(http, with_password, None).ask({}) == WebhookAnswer()
    assert operator.headers[0]["Authorization"] == "k3y"
    assert operator.headers[1]["Authorization"].startswith("Basic ")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(status=401),
        lambda: web.Response(status=500),
        lambda: web.Response(status=302, headers={"Location": "/elsewhere"}),
        lambda: web.Response(text="yes"),
        lambda: web.Response(text="[]"),
        lambda: web.json_response({"pipeline": 1}),
        lambda: web.json_response({"maxStreamSeconds": "60"}),
        lambda: web.json_response({"maxSessionSpend": 1}),
        lambda: web.json_response({"maxStreamSeconds": 10**9}),
        lambda: web.Response(text=f'{{"maxStreamSeconds": {"9" * 4000}}}'),
        lambda: web.Response(text=f'{{"maxStreamSeconds": {"9" * 5000}}}'),
        lambda: web.json_response({"maxSessionSpend": "9" * 4000}),
        lambda: web.json_response({"pipeline_parameters": {"x": "y" * (MAX_ANSWER_BYTES - 100)}}),
        lambda: web.json_response({"maxPaidStartsPerMinute": True}),
        lambda: web.json_response({"customer": 7}),
        lambda: web.Response(text='{"pipeline_parameters": {"x": 1e999}}'),
        lambda: web.json_response({"standby": "yes"}),
        lambda: web.json_response({"maxSessionSpend": "much"}),
        lambda: web.json_response({"pipeline_parameters": "{}"}),
        lambda: web.json_response({"stream_id": "a/b"}),
        lambda: web.Response(text="[" * 200_000),
        lambda: web.Response(text=json.dumps({"x": "y" * MAX_ANSWER_BYTES})),
    ],
)
async def test_anything_but_2xx_with_an_object_refuses(
    answer: Callable[[], web.Response], operator: Operator, http: aiohttp.ClientSession
) -> None:
    operator.answer = answer
    with pytest.raises(Problem) as refused:
        await AuthWebhook(http, operator.url, None).ask({})
    assert (refused.value.status, refused.value.code) == (403, "refused_by_webhook")


@pytest.mark.asyncio
async def test_an_answer_that_comes_in_pieces_is_read_to_its_end(http: aiohttp.ClientSession) -> None:
    body = json.dumps({"pipeline": "m", "more": "x" * 4000}).encode()
    async with answering_in_pieces(body) as url:
        assert await AuthWebhook(http, url, None).ask({}) == WebhookAnswer(pipeline="m")


@pytest.mark.asyncio
async def test_a_webhook_out_of_reach_lets_nobody_in(
    http: aiohttp.ClientSession, unused_tcp_port: int
) -> None:
    with pytest.raises(Problem) as refused:
        await AuthWebhook(http, f"http://127.0.0.1:{unused_tcp_port}/", None).ask({})
    assert (refused.value.status, refused.value.code) == (503, "webhook_unreachable")


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ({}, WebhookAnswer()),
        ({"pipeline": "", "stream_id": "", "pipeline_parameters": None}, WebhookAnswer()),
        ({"pipeline": "m", "stream_id": "s"}, WebhookAnswer(pipeline="m", stream_id="s")),
        ({"orchestrator": "comfystream"}, WebhookAnswer(orchestrator="comfystream")),
        ({"standby": True}, WebhookAnswer(standby=True)),
        ({"standby": False}, WebhookAnswer(standby=False)),
        (
            {"pipeline": "comfyui", "pipeline_parameters": {"1": {}}},
            WebhookAnswer(pipeline="comfyui", params={"prompt": {"1": {}}}),
        ),
        (
            {"pipeline": "comfyui", "pipeline_parameters": {"prompt": {"1": {}}}},
            WebhookAnswer(pipeline="comfyui", params={"prompt": {"1": {}}}),
        ),
        (
            {"maxSessionSpend": "0.1ETH", "maxStreamSeconds": 60},
            WebhookAnswer(limits=StreamLimits(wei=10**17, seconds=60)),
        ),
        (
            {"maxPublisherSpendPerDay": "2gwei", "maxPaidStartsPerMinute": 3, "customer": "ann"},
            WebhookAnswer(limits=StreamLimits(publisher_day=2 * 10**9, paid_starts=3), customer="ann"),
        ),
        ({"pipeline": "m", "pipeline_parameters": {"a": 1}}, WebhookAnswer(pipeline="m", params={"a": 1})),
    ],
)
def test_an_answer_decides_and_a_workflow_without_a_prompt_becomes_one(
    answer: dict[str, Any], verdict: WebhookAnswer
) -> None:
    assert parse_answer(answer) == verdict


def heartbeat(
    operator: Operator, http: aiohttp.ClientSession, on_duty: Callable[[], bool] = lambda: True
) -> Heartbeat:
    async def live() -> list[str]:
        return ["a", "b"]

    async def terminate(stream_id: str) -> None:
        pass

    return Heartbeat(
        http,
        operator.url,
        interval=60,
        headers={"X-Key": "k"},
        live=live,
        terminate=terminate,
        on_duty=on_duty,
    )


@pytest.mark.asyncio
async def test_a_heartbeat_names_the_live_streams_and_hears_which_end(
    operator: Operator, http: aiohttp.ClientSession
) -> None:
    operator.answer = lambda: web.json_response({"terminatedStreamIds": ["b", 7]})
    assert await heartbeat(operator, http).beat() == ["b"]
    assert operator.bodies == [{"ids": ["a", "b"]}]
    assert operator.headers[0]["X-Key"] == "k"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda: web.Response(status=500), ErrorStatus),
        (lambda: web.Response(text="[" * 200_000), ValueError),
        (lambda: web.Response(text="?"), ValueError),
        (lambda: web.json_response({"terminatedStreamIds": "all"}), ValueError),
    ],
)
async def test_a_heartbeat_that_makes_no_sense_ends_nothing(
    answer: Callable[[], web.Response],
    error: type[Exception],
    operator: Operator,
    http: aiohttp.ClientSession,
) -> None:
    operator.answer = answer
    with pytest.raises(error):
        await heartbeat(operator, http).beat()


@pytest.mark.asyncio
@pytest.mark.parametrize("answer", [{}, [], {"terminatedStreamIds": None}])
async def test_a_heartbeat_without_ids_ends_nothing(
    answer: Any, operator: Operator, http: aiohttp.ClientSession
) -> None:
    operator.answer = lambda: web.json_response(answer)
    assert await heartbeat(operator, http).beat() == []
