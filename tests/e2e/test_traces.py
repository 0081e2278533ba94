"""Traces of the real gateway: a publish until its first picture, and each payment, at a collector."""

from __future__ import annotations

import base64
from collections import defaultdict
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from harness.gateway import gateway_process
from harness.otlp import otlp_receiver
from harness.serving import serving
from harness.waiting import eventually
from harness.webrtc import WhipPublisher

SECRET = f"whsec_{base64.b64encode(b'k' * 32).decode()}"


class Operator:
    """The operator's server: it lets everybody in, and keeps what came with each question and event."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.events: dict[str, list[tuple[str | None, dict[str, Any]]]] = defaultdict(list)

    async def decide(self, request: web.Request) -> web.Response:
        self.asked.append(request.headers.get("traceparent"))
        return web.json_response({})

    async def take(self, request: web.Request) -> web.Response:
        event = await request.json()
        self.events[event["type"]].append((request.headers.get("traceparent"), event))
        return web.Response()


@pytest.mark.asyncio
async def test_a_publish_is_one_trace_to_its_first_picture_and_each_payment_another(
    tmp_path: Path, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    operator = Operator()
    routes = (web.post("/decide", operator.decide), web.post("/events", operator.take))
    async with otlp_receiver() as collector, serving(*routes) as url:
        flags = (
            *("-otelEndpoint", collector.url, "-livePaymentInterval", "1s"),
            *("-liveAIAuthWebhookUrl", f"{url}/decide"),
            *("-eventWebhookUrl", f"{url}/events", "-eventWebhookSecret", SECRET),
        )
        async with gateway_process(tmp_path, *flags) as gateway:
            async with WhipPublisher(http, gateway.live("cam/whip")):
                await collector.until(lambda: collector.named("publish"), "the publish")
                await collector.until(lambda: len(collector.named("payment")) > 1, "two payments")
            await eventually(lambda: operator.events["stream.ended"], what="the last event")
            collector.status = 503
            async with WhipPublisher(http, gateway.live("again/whip")):
                await eventually(lambda: operator.events["stream.live"][1:], what="a stream without traces")
            refused = await http.post(gateway.live("cam/whip"), data="v=0", headers={"Content-Type": "x/y"})
            assert refused.status == 415
            collector.status = 200
            await collector.until(lambda: collector.named("publish")[1:], "the refusal")
    first = next(span for span in collector.named("publish") if span.error is None)
    within = {span.name: span for span in collector.spans if span.trace == first.trace}
    assert within.keys() == {
        *("publish", "auth webhook", "answer", "connect", "key frame"),
        *("job", "job start", "first picture"),
    }
    assert all(span.error is None for span in within.values())
    assert first.attributes["stream"] == "cam"
    assert max(span.seconds for span in within.values()) == first.seconds
    assert within["first picture"].parent == within["job"].id
    asked = within["auth webhook"]
    assert operator.asked[0] is not None
    assert operator.asked[0].startswith(f"00-{asked.trace}-{asked.id}-")
    for kind in ("stream.created", "stream.live", "stream.ended"):
        header, event = operator.events[kind][0]
        assert header == event["traceparent"]
        assert str(header).startswith(f"00-{first.trace}-{first.id}-")
    payments = [span for span in collector.named("payment") if first.trace in span.links]
    assert len({span.trace for span in payments}) == len(payments) > 1
    steps = [{span.name for span in collector.spans if span.trace == one.trace} for one in payments[:2]]
    assert steps == [{"payment", "sign", "job start"}, {"payment", "sign", "deliver"}]
    assert [int(one.attributes["wei"]) > 0 for one in payments[:2]] == [True, True]
    assert any("bad" in (one.error or "") or "unsupported" in (one.error or "") for one in collector.spans)
