"""Who may publish, and through whom: the WHIP route over a real registry, without a daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.http.access import Access
from gateway.http.forwarding import Forwarding
from gateway.http.limits import ClientLimits
from gateway.http.outputs import OutputRoutes
from gateway.http.route import Token
from gateway.http.server import Server, application
from gateway.http.sessions import Links
from gateway.http.tokens import TokenFile
from gateway.http.webhook import AuthWebhook
from gateway.http.whip import WhipRoutes
from gateway.outputs.outputs import Outputs
from gateway.outputs.settings import OutputSettings
from gateway.payments.customer import Customer
from gateway.payments.spending import PublisherBudget
from gateway.reason import EndReason
from gateway.stream.seam import Candidate, PublishRequest, TooManyModels, UnknownModel
from gateway.stream.sources import JobSources, Preference
from gateway.telemetry.metrics import Metrics
from harness.serving import serving
from tests.e2e.sessions import PUBLISH, SDP
from tests.stream.jobs import FakeSource, only
from tests.stream.live import registry_on

TOKENS = "modeller pipeline=noop,other\nplain\nchooser chooseOrchestrator\nsingle maxPaidStartsPerMinute=2\n"


@dataclass
class Publishing:
    """A client of the WHIP route."""

    http: aiohttp.ClientSession
    url: str

    async def publish(
        self, name: str, query: str = "", token: str = "", offer: str = PUBLISH
    ) -> tuple[int, Any, Any]:
        """Status, code of the problem (None: accepted), headers."""
        url = f"{self.url}live/video-to-video/{name}/whip{query}"
        headers = SDP | ({"Authorization": f"Bearer {token}"} if token else {})
        async with self.http.post(url, data=offer, headers=headers) as response:
            problem = None if response.status == 201 else (await response.json(content_type=None))["code"]
            return response.status, problem, response.headers


@asynccontextmanager
async def publishing(
    *,
    tokens: Path | None = None,
    webhook: str | None = None,
    everybody_chooses: bool = False,
    source: FakeSource | None = None,
    sources: JobSources | None = None,
) -> AsyncIterator[Publishing]:
    registry = registry_on(sources or only(source or FakeSource(urls="ab", name="network")))
    async with aiohttp.ClientSession() as http:
        outputs = Outputs(OutputSettings(program="true"), lambda name: None)
        routes = WhipRoutes(
            registry,
            Metrics(),
            Links(Forwarding()),
            ClientLimits(0, 0, 0, 0, 0, 0),
            default_model="m",
            webhook=None if webhook is None else AuthWebhook(http, webhook, None),
            everybody_chooses=everybody_chooses,
            outputs=outputs,
        ).routes()
        routes += OutputRoutes(registry, outputs, everybody=everybody_chooses).routes()
        files = {} if tokens is None else {Token.PUBLISH: TokenFile(tokens)}
        guards = [Access(files, registry.watched_name).guard]
        server = Server(application([routes], guards=guards), ("127.0.0.1", 0), "httpAddr")
        try:
            yield Publishing(http, await server.start())
        finally:
            await server.stop()
            await registry.close(EndReason.DRAINED, "the test is over")


@asynccontextmanager
async def deciding(answer: dict[str, Any]) -> AsyncIterator[str]:
    """The URL of an auth webhook with this answer."""

    async def decide(_: web.Request) -> web.Response:
        return web.json_response(answer)

    async with serving(web.post("/", decide)) as url:
        yield url + "/"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(TOKENS)
    return path


@pytest.mark.asyncio
async def test_only_a_token_that_allows_it_names_an_orchestrator(tokens: Path) -> None:
    async with publishing(tokens=tokens) as client:
        assert (await client.publish("a", "?orchestrator=a", "plain"))[:2] == (403, "may_not_choose")
        assert (await client.publish("b", "?orchestrator=network", "plain"))[0] == 201
        assert (await client.publish("c", "", "plain"))[0] == 201
        assert (await client.publish("d", "?orchestrator=a", "chooser"))[0] == 201


@pytest.mark.asyncio
async def test_only_who_may_names_servers_that_the_stream_goes_on_to(tokens: Path) -> None:
    tokens.write_text("plain\nsender outputs\n")
    inside, ill = "?rtmpOutput=rtmp://127.0.0.1/live/key", "?rtmpOutput=http://a.example/"
    async with publishing(tokens=tokens) as client:
        assert (await client.publish("a", inside, "plain"))[:2] == (403, "may_not_output")
        for query in (inside, ill, "&rtmpOutput=".join(["?x=", *(f"rtmp://h/a/{n}" for n in range(5))])):
            assert (await client.publish("a", query, "sender"))[1] in ("bad_output", "limit_reached")
        assert (await client.publish("a", "", "sender"))[0] == 201


@pytest.mark.asyncio
async def test_a_webhooks_output_that_cannot_be_served_refuses_the_publisher() -> None:
    for answer, code in (
        ({"rtmp_output_url": "rtmp://10.0.0.1/live/key"}, "bad_output"),
        ({"rtmp_output_url": "file:/tmp/x.ts", "outputs": True}, "bad_output"),
        ({"outputs": False}, "may_not_output"),
    ):
        async with deciding(answer) as webhook, publishing(webhook=webhook, everybody_chooses=True) as client:
            query = "?rtmpOutput=rtmp://10.0.0.1/live/key" if code == "may_not_output" else ""
            assert (await client.publish("a", query))[1] == code


@pytest.mark.asyncio
async def test_outputs_that_the_webhook_refuses_are_not_added_later(tokens: Path) -> None:
    tokens.write_text("sender outputs\n")
    for outputs, code in ((False, "may_not_output"), (None, "bad_output")):
        answer = {} if outputs is None else {"outputs": outputs}
        async with deciding(answer) as webhook, publishing(webhook=webhook, tokens=tokens) as client:
            assert (await client.publish("cam", "", "sender"))[0] == 201
            url = f"{client.url}live/video-to-video/cam/outputs"
            body, headers = {"url": "rtmp://10.0.0.1/live/key"}, {"Authorization": "Bearer sender"}
            async with client.http.post(url, json=body, headers=headers) as response:
                assert (await response.json(content_type=None))["code"] == code


@pytest.mark.asyncio
async def test_everybody_may_ask_for_any_kind_of_job(tokens: Path) -> None:
    kinds = ("network", "runner", "third")
    sources = JobSources(
        [FakeSource(urls=(f"{kind}-1",), name=kind) for kind in kinds], Preference("network", False)
    )
    async with publishing(tokens=tokens, sources=sources) as client:
        for kind in kinds:
            assert (await client.publish(kind, f"?orchestrator={kind}", "plain"))[0] == 201
            refused = await client.publish("one", f"?orchestrator={kind}-1", "plain")
            assert refused[:2] == (403, "may_not_choose")
        assert (await client.publish("one", "?orchestrator=fourth", "plain"))[:2] == (403, "may_not_choose")


@pytest.mark.asyncio
@pytest.mark.parametrize(("free", "status"), [(True, 201), (False, 403)])
async def test_without_tokens_it_depends_on_who_reaches_the_gateway(free: bool, status: int) -> None:
    async with publishing(everybody_chooses=free) as client:
        assert (await client.publish("a", "?orchestrator=a"))[0] == status
        assert (await client.publish("b", "?orchestrator=network"))[0] == 201


@pytest.mark.asyncio
async def test_the_webhooks_answer_goes_before_what_the_publisher_may(tokens: Path) -> None:
    async with deciding({"orchestrator": "b"}) as url, publishing(webhook=url) as client:
        assert (await client.publish("a", "?orchestrator=a"))[0] == 201
    async with deciding({}) as url, publishing(webhook=url, tokens=tokens) as client:
        assert (await client.publish("a", "?orchestrator=a", "plain"))[:2] == (403, "may_not_choose")
        assert (await client.publish("a", "?orchestrator=a", "chooser"))[0] == 201


class Paid(FakeSource):
    """Starts cost money; remembers who wanted to start, and under which limits."""

    def __init__(self) -> None:
        super().__init__(urls="ab", name="network")
        self.first_payment = Fraction(60)
        self.admitted: list[PublishRequest] = []

    def admit(self, request: PublishRequest, candidates: Sequence[Candidate]) -> None:
        super().admit(request, candidates)
        self.admitted.append(request)


@pytest.mark.asyncio
async def test_the_pipeline_of_a_publish_a_token_or_the_webhook_chooses_the_model(tokens: Path) -> None:
    source = Paid()
    async with publishing(tokens=tokens, source=source) as client:
        for query, token in [
            ("", "plain"),
            ("?pipeline=comfyui", "plain"),
            ("?pipeline=other", "plain"),
            ("", "modeller"),
            ("?pipeline=other", "modeller"),
            ("?pipeline=third", "modeller"),
        ]:
            assert (await client.publish(f"cam{len(source.admitted)}", query, token))[0] == 201
    async with deciding({"pipeline": "hooked"}) as url, publishing(webhook=url, source=source) as client:
        assert (await client.publish("hooked", "?pipeline=other"))[0] == 201
    assert [(one.model, one.model_granted) for one in source.admitted] == [
        ("m", False),
        ("m", False),
        ("other", False),
        ("noop", True),
        ("other", True),
        ("third", False),
        ("hooked", True),
    ]


@pytest.mark.asyncio
async def test_a_token_and_the_webhook_say_whom_a_stream_is_for(tmp_path: Path) -> None:
    tokens, source = tmp_path / "customers", Paid()
    tokens.write_text('ann customer=ann signerHeaders="Authorization: Bearer a" usageMarkup=1.5\nplain\n')
    ann = Customer("ann", {"Authorization": "Bearer a"}, Fraction(3, 2))
    async with publishing(tokens=tokens, source=source) as client:
        for token in ("ann", "plain"):
            assert (await client.publish(token, "", token))[0] == 201
    answer = {"customer": "b\0b", "signer_headers": {"X-Key": "b"}, "usageMarkup": "2"}
    async with deciding(answer) as url, publishing(webhook=url, tokens=tokens, source=source) as client:
        assert (await client.publish("bob", "", "ann"))[0] == 201
    async with deciding({}) as url, publishing(webhook=url, tokens=tokens, source=source) as client:
        assert (await client.publish("none", "", "ann"))[0] == 201
    bob = Customer("b?b", {"X-Key": "b"}, Fraction(2))
    assert [one.customer for one in source.admitted] == [ann, Customer(), bob, ann]
    for wrong in ({"Host": "x"}, ["X-Key"], {"X-Key": 1}, {"X-Key": "a\r\nb"}):
        async with deciding({"signer_headers": wrong}) as url, publishing(webhook=url) as client:
            assert (await client.publish("cam"))[:2] == (403, "refused_by_webhook")


@pytest.mark.asyncio
async def test_an_unknown_model_is_refused_with_those_offered() -> None:
    source = FakeSource(urls="ab", name="network")
    async with publishing(source=source) as client:
        source.unknown = UnknownModel("no orchestrator names the model 'x'", ["m", "n"])
        async with client.http.post(
            f"{client.url}live/video-to-video/a/whip?pipeline=x", data=PUBLISH, headers=SDP
        ) as response:
            problem = await response.json(content_type=None)
        assert (response.status, problem["code"], problem["models"]) == (404, "unknown_model", ["m", "n"])
        assert problem["detail"] == "no orchestrator names the model 'x'; ask for one of: m, n"
        source.unknown = TooManyModels("32 other models are in use")
        assert (await client.publish("a"))[:2] == (503, "too_many_models")
        source.unknown = None
        assert (await client.publish("a"))[0] == 201


@pytest.mark.asyncio
async def test_paid_starts_of_one_publisher_are_few_a_minute(tokens: Path) -> None:
    async with publishing(tokens=tokens, source=Paid()) as client:
        for name in "ab":
            assert (await client.publish(name, token="single"))[0] == 201
        status, code, headers = await client.publish("c", token="single")
        assert (status, code) == (429, "limit_reached")
        assert 1 <= int(headers["Retry-After"]) <= 60
        assert (await client.publish("d", token="plain"))[0] == 201
    async with publishing(tokens=tokens) as client:  # where nothing is paid there is nothing to count
        for name in "abc":
            assert (await client.publish(name, token="single"))[0] == 201


@pytest.mark.asyncio
async def test_a_publish_that_is_refused_is_no_start(tokens: Path) -> None:
    async with publishing(tokens=tokens, source=Paid()) as client:
        for _ in range(3):
            assert (await client.publish("a", token="single", offer="v=1"))[0] == 400
        assert (await client.publish("a", token="single"))[0] == 201


@pytest.mark.asyncio
async def test_who_publishes_is_the_token_else_the_webhooks_customer_else_the_address(tokens: Path) -> None:
    source = Paid()
    async with deciding({"customer": "ann", "maxPublisherSpendPerHour": "7"}) as url:
        async with publishing(webhook=url, tokens=tokens, source=source) as client:
            await client.publish("a", token="plain")
        async with publishing(webhook=url, source=source) as client:
            await client.publish("b")
    async with publishing(source=source) as client:
        await client.publish("c")
    by_token, by_customer, by_address = (request.budget for request in source.admitted)
    assert by_token.publisher.startswith("token ")
    assert "plain" not in by_token.publisher
    assert by_customer == PublisherBudget("customer ann", 7, None)
    assert by_address == PublisherBudget("address 127.0.0.1", None, None)


@pytest.mark.asyncio
async def test_a_location_has_an_id_of_its_own() -> None:
    source = Paid()
    async with publishing(source=source) as client:
        locations = {(await client.publish(name))[2]["Location"] for name in "ab"}
    ids = {location.rpartition("/")[2] for location in locations}
    assert len(ids) == 2
    assert all(len(bytes.fromhex(one)) == 16 for one in ids)
    assert ids.isdisjoint(request.request_id for request in source.admitted)
