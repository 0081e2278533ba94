"""The trickle server against the recorded heads of go-livepeer's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

from gateway.devnet.trickle_server import TrickleServer
from harness.serving import serving, trickle_app
from tests.devnet.golden import Recorded, own_headers, recorded


@dataclass
class Bench:
    """A server with one channel `c` of JSON, and a client of it."""

    server: TrickleServer
    http: aiohttp.ClientSession
    url: str

    async def ask(self, method: str, path: str, body: bytes | None = None) -> Recorded:
        headers = {} if body is None else {"Content-Type": "application/json"}
        async with self.http.request(method, self.url + path, data=body, headers=headers) as answer:
            return Recorded(answer.status, own_headers(answer.headers), await answer.read())


@asynccontextmanager
async def bench(content_type: str) -> AsyncIterator[Bench]:
    server = TrickleServer()
    server.create("c", content_type=content_type)
    async with serving(app=trickle_app(server)) as url, aiohttp.ClientSession() as http:
        yield Bench(server, http, url + "/ai/trickle")


def head(name: str, **numbers: str) -> tuple[int, dict[str, str]]:
    """The status and headers that were recorded, with other sequence numbers."""
    known = recorded(f"trickle/{name}-response.head.txt")
    return known.status, {
        key: numbers.get(key.removeprefix("lp-trickle-"), known.headers[key]) for key in known.headers
    }


@pytest.mark.asyncio
async def test_a_segment_is_taken_and_given_out_with_go_livepeers_headers() -> None:
    async with bench("application/json") as at:
        waiting = asyncio.get_running_loop().create_task(at.ask("GET", "/c/0"))
        await asyncio.sleep(0.05)
        taken = await at.ask("POST", "/c/0", b"{}")
        assert (taken.status, taken.headers) == head("POST-mid-control-4-seq0")
        given = await waiting
        assert (given.status, given.headers, given.body) == (*head("GET-mid-control-3-seq0"), b"{}")


@pytest.mark.asyncio
async def test_a_segment_that_was_begun_before_it_was_asked_for_comes_with_the_latest_number() -> None:
    async with bench("video/MP2T") as at:
        await at.ask("POST", "/c/0", b"picture")
        given = await at.ask("GET", "/c/0")
        assert (given.status, given.headers) == head("GET-mid-2-seq0")


@pytest.mark.asyncio
async def test_the_end_of_a_channel_is_told_with_go_livepeers_headers() -> None:
    async with bench("application/json") as at:
        waiting = asyncio.get_running_loop().create_task(at.ask("GET", "/c/0"))
        await asyncio.sleep(0.05)
        deleted = await at.ask("DELETE", "/c")
        assert (deleted.status, deleted.headers) == head("DELETE-mid-1-seqnone")
        ended = await waiting
        assert (ended.status, ended.headers, ended.body) == (*head("GET-mid-control-1-seq0"), b"")
        again = await at.ask("DELETE", "/c")
        assert (again.status, again.headers) == head("DELETE-mid-control-1-seqnone")
        assert again.body == b"Invalid stream\n"


@pytest.mark.asyncio
async def test_what_is_not_there_is_said_in_go_livepeers_words() -> None:
    async with bench("video/MP2T") as at:
        unknown = await at.ask("GET", "/x/0")
        assert (unknown.status, unknown.body) == (404, b"Stream not found\n")
        await at.ask("POST", "/c/0", b"picture")
        ahead = await at.ask("GET", "/c/9")
        assert (ahead.status, ahead.body) == (470, b"Entry not found")
        assert (ahead.headers["lp-trickle-latest"], ahead.headers["lp-trickle-seq"]) == ("1", "9")
        gone = await at.ask("DELETE", "/c/9")
        assert (gone.status, gone.body) == (400, b"Nonexistent segment\n")
        assert (await at.ask("DELETE", "/x/0")).status == 404


@pytest.mark.asyncio
async def test_before_the_first_segment_the_one_after_it_may_be_asked_for() -> None:
    async with bench("video/MP2T") as at:
        waiting = asyncio.get_running_loop().create_task(at.ask("GET", "/c/1"))
        await at.ask("POST", "/c/0", b"first")
        await at.ask("POST", "/c/1", b"second")
        assert (await waiting).body == b"second"
