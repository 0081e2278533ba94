"""Lists of orchestrators, good and bad."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.orchestrator.discovery import (
    MAX_LIST,
    MAX_ORCHESTRATORS,
    Directory,
    DiscoveryFailed,
    FixedSource,
    Listing,
    SignerSource,
    WebhookSource,
    listed_in,
)
from harness.pieces import answering_in_pieces
from harness.serving import serving

Webhook = Callable[[web.Response], Awaitable[str]]


@pytest_asyncio.fixture
async def webhook() -> AsyncIterator[Webhook]:
    async with AsyncExitStack() as stack:

        async def start(answer: web.Response) -> str:
            async def give(_: web.Request) -> web.Response:
                return answer

            return await stack.enter_async_context(serving(web.get("/list", give))) + "/list"

        yield start


@pytest.mark.asyncio
async def test_a_fixed_list_is_what_it_is() -> None:
    source = FixedSource(["a:1", "https://b:2"])
    assert source.interval is None
    assert await source.listings() == [
        Listing("a:1", may_be_inside=True),
        Listing("https://b:2", may_be_inside=True),
    ]


@pytest.mark.asyncio
async def test_an_address_before_the_url_pins_who_is_paid() -> None:
    address = "0x" + "aB" * 20
    plain, pinned, url = await FixedSource(["a:1", f"{address}@b:2", f"{address}@https://c:3"]).listings()
    assert (plain.pinned, pinned.pinned) == (False, True)
    assert (pinned.addr, url.addr) == ("b:2", "https://c:3")
    assert pinned.allows(address.lower())
    assert not pinned.allows("0x" + "11" * 20)
    assert listed_in(json.dumps([{"address": f"{address}@https://c:3"}]).encode()) == [url]


def test_a_pin_counts_whatever_other_lists_say() -> None:
    directory, pinned = Directory(), Listing.parse("0x" + "1" * 40 + "@a:1")
    directory.succeeded("orchAddr", [pinned], 0.0)
    directory.succeeded("webhook", [Listing("a:1")], 0.0)
    assert directory.listings() == {"a:1": pinned}


@pytest.mark.asyncio
async def test_a_webhook_lists_objects_with_an_address(http: aiohttp.ClientSession, webhook: Webhook) -> None:
    url = await webhook(
        web.json_response([{"address": "https://a:1", "score": 1}, {"address": "https://b:2"}])
    )
    listings = await WebhookSource(http, url).listings()
    expected = [("https://a:1", True), ("https://b:2", True)]
    assert [(one.addr, one.may_be_inside) for one in listings] == expected


@pytest.mark.asyncio
async def test_a_list_that_comes_in_pieces_is_read_to_its_end(http: aiohttp.ClientSession) -> None:
    entries = [{"address": f"https://o{n}:1"} for n in range(MAX_ORCHESTRATORS)]
    async with answering_in_pieces(json.dumps(entries).encode()) as url:
        assert len(await WebhookSource(http, url).listings()) == MAX_ORCHESTRATORS


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(status=500),
        lambda: web.Response(status=302, headers={"Location": "/list"}),
        lambda: web.Response(body=b"not json"),
        lambda: web.json_response({"address": "https://a:1"}),
        lambda: web.Response(body=b"[" + b" " * MAX_LIST + b"]"),
    ],
)
async def test_a_webhook_that_gives_no_list_has_failed(
    http: aiohttp.ClientSession, webhook: Webhook, answer: Callable[[], web.Response]
) -> None:
    with pytest.raises(DiscoveryFailed):
        await WebhookSource(http, await webhook(answer())).listings()


@pytest.mark.asyncio
async def test_a_webhook_out_of_reach_has_failed(http: aiohttp.ClientSession) -> None:
    with pytest.raises(DiscoveryFailed, match="cannot be asked"):
        await WebhookSource(http, "http://127.0.0.1:1/list").listings()


def test_entries_that_are_no_orchestrators_are_passed_over() -> None:
    entries = [{"address": "https://a:1"}, {"address": "ftp://b:2"}, {"address": 3}, {}, "c:4", None]
    assert listed_in(json.dumps([*entries, {"address": "https://a:1"}]).encode()) == [
        Listing("https://a:1", may_be_inside=True)
    ]


@pytest.mark.parametrize("body", [b"[" * 500_000, b'[{"a":' * 100_000, b"[" + b"[]," * 300_000 + b"0]"])
def test_a_list_that_is_deep_or_of_many_values_is_none(body: bytes) -> None:
    with pytest.raises(DiscoveryFailed, match="not JSON"):
        listed_in(body)


def test_a_list_without_end_is_cut() -> None:
    body = json.dumps([{"address": f"https://o{n}:1"} for n in range(MAX_ORCHESTRATORS + 50)]).encode()
    assert len(listed_in(body)) == MAX_ORCHESTRATORS


@pytest.mark.asyncio
async def test_the_signers_discovery_is_a_source_and_its_errors_are_failures() -> None:
    async def ask() -> list[str]:
        return ["https://a:1", "nonsense at all"]

    async def fail() -> list[str]:
        raise RuntimeError("503")

    assert await SignerSource(ask).listings() == [Listing("https://a:1")]
    inside = SignerSource(ask, reached_inside=lambda: True)
    assert await inside.listings() == [Listing("https://a:1", may_be_inside=True)]
    with pytest.raises(DiscoveryFailed, match="503"):
        await SignerSource(fail).listings()


def test_a_failed_source_keeps_its_last_good_list_with_its_age() -> None:
    directory = Directory()
    directory.succeeded("webhook", [Listing("a:1"), Listing("b:2")], now=10.0)
    directory.succeeded("signer", [Listing("b:2"), Listing("c:3")], now=20.0)
    assert directory.failed("webhook", "HTTP 500") == 2
    assert directory.failed("chain", "no RPC") == 0
    assert list(directory.listings()) == ["a:1", "b:2", "c:3"]
    assert directory.errors() == ["webhook: HTTP 500", "chain: no RPC"]
    assert directory.json(now=70.0) == [
        {"name": "chain", "listed": 0, "age_s": None, "error": "no RPC"},
        {"name": "signer", "listed": 2, "age_s": 50.0, "error": None},
        {"name": "webhook", "listed": 2, "age_s": 60.0, "error": "HTTP 500"},
    ]
    directory.succeeded("webhook", [Listing("a:1")], now=80.0)
    assert directory.errors() == ["chain: no RPC"]
