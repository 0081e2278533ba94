"""Creating streams, over a real ledger and real access checks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.http.access import Access
from gateway.http.create import CreateRoutes
from gateway.http.forwarding import Forwarding
from gateway.http.jwt_tokens import JwtTokens
from gateway.http.limits import ClientLimits
from gateway.http.route import Token
from gateway.http.server import Server, application
from gateway.http.sessions import Links
from gateway.http.streams import StreamRoutes
from gateway.http.tokens import TokenFile
from gateway.http.whep import WhepRoutes
from gateway.http.whip import WhipRoutes
from gateway.payments.customer import Customer
from gateway.payments.ledger import Clocks, Ledger
from gateway.payments.spending import StreamLimits
from gateway.reason import EndReason
from gateway.stream.registry import StreamRegistry
from gateway.telemetry.metrics import Metrics
from tests.e2e.sessions import PUBLISH, SDP
from tests.stream.jobs import FakeSource, only
from tests.stream.live import registry_on

SECRET = b"0123456789abcdef0123456789abcdef"
LINES = (
    'shop streams=cam-*,s-* maxSessionSpend=0.1ETH signerHeaders="X-Key: k"\n'
    "other\n"
    "ann customer=ann pipeline=m,n\n"
    "lab streams=door,lab-*-in\n"
    "few streams=door,cam-?\n"
)
HOUR = 3600 * 10**9
TEN_SECONDS = 10 * 10**9


@dataclass
class Client:
    http: aiohttp.ClientSession
    url: str
    registry: StreamRegistry
    now: list[int]

    async def create(self, token: str, key: str = "", **body: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"} | ({"Idempotency-Key": key} if key else {})
        async with self.http.post(f"{self.url}live/video-to-video", json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def post(self, url: str, token: str) -> int:
        headers = SDP | {"Authorization": f"Bearer {token}"}
        async with self.http.post(url, data=PUBLISH, headers=headers) as answer:
            return answer.status


@asynccontextmanager
async def creating(folder: Path) -> AsyncIterator[Client]:
    (folder / "tokens").write_text(LINES)
    now = [1_800_000_000 * 10**9]
    ledger = await Ledger.open(folder / "ledger.sqlite3", clocks=Clocks(wall_ns=lambda: now[0]))
    registry = registry_on(only(FakeSource(urls="ab", name="network")))
    api, links = TokenFile(folder / "tokens"), Links(Forwarding())
    tokens = JwtTokens(secret=SECRET, audience="here", maker=api.by_id, wall=lambda: now[0] / 1e9)
    limits = ClientLimits(0, 0, 0, 0, 0, 0)
    routes = [
        CreateRoutes(registry, links, ledger.created_streams, tokens).routes(),
        WhipRoutes(registry, Metrics(), links, limits, default_model="d").routes(),
        WhepRoutes(registry, links, limits).routes(),
        StreamRoutes(registry, links).routes(),
    ]
    access = Access({Token.API: api}, registry.watched_name, tokens)
    server = Server(application(routes, guards=[access.guard]), ("127.0.0.1", 0), "httpAddr")
    try:
        async with aiohttp.ClientSession() as http:
            yield Client(http, await server.start(), registry, now)
    finally:
        await server.stop()
        await registry.close(EndReason.DRAINED, "the test is over")
        await ledger.close()


@pytest.mark.asyncio
async def test_a_created_stream_is_opened_by_its_tokens_and_no_other_is(tmp_path: Path) -> None:
    async with creating(tmp_path) as client:
        status, made = await client.create(
            "shop", name="cam-1", customer="bob", pipeline="m", params={"a": 1},
            limits={"maxSessionSpend": "0.2ETH", "maxStreamSeconds": 60}, expiresIn=60,
        )  # fmt: skip
        assert status == 201
        assert made["whip_url"] == f"{client.url}live/video-to-video/cam-1/whip"
        assert made["events_url"] == f"{client.url}live/video-to-video/cam-1/events"
        assert made["expires_at"] == "2027-01-15T08:01:00.000Z"
        for url, token, expected in (
            (made["whip_url"], made["play_token"], 401),
            (made["whep_url"], made["publish_token"], 401),
            (made["whip_url"].replace("cam-1", "cam-2"), made["publish_token"], 403),
            (made["whip_url"] + "?streamId=cam-2", made["publish_token"], 403),
            (made["whip_url"], "shop", 401),
            (made["whep_url"], "", 401),
            (made["whip_url"] + "?params=%7B%22b%22:2%7D", made["publish_token"], 201),
        ):
            assert (url, await client.post(url, token)) == (url, expected)
        stream = client.registry.find("cam-1")
        assert stream is not None
        request = stream.request
        assert (request.model, request.model_granted, request.params) == ("m", True, {"a": 1, "b": 2})
        assert request.limits == StreamLimits(wei=10**17, seconds=60)
        assert request.customer == Customer("bob", {"X-Key": "k"})
        assert request.publisher.startswith("token ")
        assert (await client.create("other", name="cam-1"))[0] == 409
        client.now[0] += HOUR
        assert await client.post(made["whip_url"], made["publish_token"]) == 401
        assert (await client.create("other", name="cam-1"))[0] == 409  # it is still live
        assert (await client.create("shop", name="cam-1", customer="bob"))[0] == 201


@pytest.mark.asyncio
async def test_a_customers_own_token_makes_streams_of_that_customer(tmp_path: Path) -> None:
    async with creating(tmp_path) as client:
        for body in ({}, {"customer": "ann"}):
            status, made = await client.create("ann", **body)
            assert (status, made["customer"]) == (201, "ann")
            assert await client.post(made["whip_url"], made["publish_token"]) == 201
            stream = client.registry.find(made["name"])
            assert stream is not None
            assert stream.request.customer == Customer("ann")
        assert (await client.create("other"))[1]["customer"] is None


@pytest.mark.asyncio
async def test_a_new_name_fits_the_patterns_of_the_token(tmp_path: Path) -> None:
    async with creating(tmp_path) as client:
        status, made = await client.create("lab")
        assert (status, made["name"][:4], made["name"][-3:]) == (201, "lab-", "-in")
        assert await client.post(made["whip_url"], made["publish_token"]) == 201


@pytest.mark.asyncio
async def test_a_repeated_request_makes_one_stream(tmp_path: Path) -> None:
    async with creating(tmp_path) as client:
        first = await client.create("shop", "key-1", customer="bob")
        assert first == await client.create("shop", "key-1", customer="bob")
        client.now[0] += 10**9
        assert first == await client.create("shop", "key-1", customer="bob")
        status, problem = await client.create("shop", "key-1", customer="carl")
        assert (status, problem["code"]) == (422, "key_used")
        others = [
            await client.create(*who, customer="bob")
            for who in (("shop", "key-2"), ("shop",), ("other", "key-1"))
        ]
        assert len({first[1]["name"], *(made["name"] for _, made in others)}) == 4
        client.now[0] += HOUR + TEN_SECONDS
        assert (await client.create("shop", "key-1", customer="carl"))[0] == 201


@pytest.mark.asyncio
async def test_a_name_is_one_owners_and_one_customers_until_its_tokens_have_expired(
    tmp_path: Path,
) -> None:
    async with creating(tmp_path) as client:
        assert (await client.create("shop", name="cam-1", customer="bob"))[0] == 201
        for token, customer in (("shop", "carl"), ("other", "bob")):
            status, problem = await client.create(token, name="cam-1", customer=customer)
            assert (status, problem["code"]) == (409, "name_taken")
        assert (await client.create("shop", name="cam-1", customer="bob", expiresIn=7200))[0] == 201
        status, made = await client.create("shop", name="cam-1", customer="bob", expiresIn=1)
        assert (status, made["expires_at"]) == (201, "2027-01-15T08:00:01.000Z")
        client.now[0] += HOUR
        assert (await client.create("other", name="cam-1"))[0] == 409
        assert await client.post(made["whip_url"], made["publish_token"]) == 401
        client.now[0] += HOUR
        assert (await client.create("other", name="cam-1"))[0] == 409, "its tokens are accepted until then"
        client.now[0] += TEN_SECONDS
        assert (await client.create("other", name="cam-1"))[0] == 201


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("token", "body", "expected"),
    [
        ("nobody", {}, (401, "unauthorized")),
        ("shop", {"name": "door"}, (403, "forbidden")),
        ("shop", {"name": "a b"}, (400, "bad_name")),
        ("shop", {"name": 1}, (400, "bad_parameter")),
        ("shop", {"expires_in": 1}, (400, "bad_parameter")),
        ("shop", {"expiresIn": 0}, (400, "bad_parameter")),
        ("shop", {"expiresIn": True}, (400, "bad_parameter")),
        ("shop", {"expiresIn": 86401}, (400, "bad_parameter")),
        ("shop", {"params": []}, (400, "bad_parameter")),
        ("shop", {"params": {"x": "y" * 5000}}, (413, "too_large")),
        ("shop", {"limits": {"maxSessionSpend": 1}}, (400, "bad_parameter")),
        ("shop", {"limits": {"maxSessionSpend": "1e9"}}, (400, "bad_parameter")),
        ("shop", {"limits": {"other": 1}}, (400, "bad_parameter")),
        ("shop", {"customer": "a\nb"}, (400, "bad_parameter")),
        ("shop", {"pipeline": ""}, (400, "bad_parameter")),
        ("ann", {"customer": "bob"}, (403, "forbidden")),
        ("ann", {"pipeline": "o"}, (403, "forbidden")),
        ("few", {}, (400, "bad_parameter")),
        (
            "shop",
            {"params": {"x": "y" * 4000}, "pipeline": "\u00e9" * 200, "customer": "\u00e9" * 200},
            (413, "too_large"),
        ),
    ],
)
async def test_what_cannot_be_created_is_refused(
    tmp_path: Path, token: str, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    async with creating(tmp_path) as client:
        status, problem = await client.create(token, **body)
        assert (status, problem["code"]) == expected
