"""Which server a stream gets, and how soon it is known that one has gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from gateway.aio.tasks import cancel, spawn
from gateway.candidates.verdict import Verdict
from gateway.comfystream.servers import ComfyServer, ComfyServers
from gateway.comfystream.timing import DEFAULT_TIMING, ServerTiming
from harness.serving import serving
from harness.waiting import DEADLINE, SLACK, eventually


class Health:
    """A `/health` that says what it is told to say, or nothing."""

    def __init__(self) -> None:
        self.status = 200
        self.url = ""
        self.asked = 0
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        self.url = await self._stack.enter_async_context(serving(web.get("/health", self._answer)))

    async def _answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        if not self.status:
            await asyncio.sleep(60)
        return web.Response(status=self.status)

    async def stop(self) -> None:
        await self._stack.aclose()


@asynccontextmanager
async def watched(
    count: int, timing: ServerTiming = DEFAULT_TIMING
) -> AsyncIterator[tuple[ComfyServers, list[Health]]]:
    healths = [Health() for _ in range(count)]
    for health in healths:
        await health.start()
    async with aiohttp.ClientSession() as http:
        servers = ComfyServers([health.url + "/" for health in healths], http, timing)
        watching = spawn(servers.run(), name="test watch")
        try:
            await eventually(lambda: not servers.reasons_not_ready(), what="a server that is well")
            yield servers, healths
        finally:
            await cancel(watching)
            await asyncio.gather(*(health.stop() for health in healths))


@pytest.mark.asyncio
async def test_a_server_that_is_gone_is_known_at_once_and_its_return_too() -> None:
    async with watched(1) as (servers, (health,)):
        server = servers.candidates()[0].server
        lost = spawn(server.wait_lost(), name="test lost")
        began = time.monotonic()
        await health.stop()
        assert "cannot be reached" in await asyncio.wait_for(lost, DEADLINE)
        assert time.monotonic() - began < SLACK
        (candidate,) = servers.candidates()
        assert (candidate.verdict, candidate.usable) == (Verdict.UNREACHABLE, False)
        assert servers.reasons_not_ready() == [f"{server.url}: unreachable: {server.trouble}"]


@pytest.mark.asyncio
async def test_a_server_that_says_it_is_not_healthy_or_nothing_is_not_used() -> None:
    async with watched(1, ServerTiming(health_timeout=0.1)) as (servers, (health,)):
        health.status = 500
        await eventually(servers.reasons_not_ready, what="notice of the 500")
        health.status = 200
        await eventually(lambda: not servers.reasons_not_ready(), what="its recovery")
        server = servers.candidates()[0].server
        server.warming = True
        health.status = 0
        asked = health.asked
        await eventually(lambda: health.asked > asked + 3, what="questions without an answer")
        assert server.healthy, "while a workflow is loaded, silence is no fault"
        server.warming = False
        assert "no answer" in await asyncio.wait_for(server.wait_lost(), DEADLINE)


@pytest.mark.asyncio
async def test_a_server_takes_one_stream_and_rests_after_it() -> None:
    async with watched(2) as (servers, healths):
        await eventually(lambda: all(one.usable for one in servers.candidates()), what="both")
        first = servers.candidates()[0].server
        user = object()
        assert first.take(user, 10.0)
        assert not first.take(object(), 10.0)
        assert [one.url for one in servers.candidates() if one.usable] == [healths[1].url]
        first.give_back(object(), 10.0)
        assert first.busy(10.0), "somebody else cannot give it back"
        first.give_back(user, 10.0)
        assert first.busy(10.0 + DEFAULT_TIMING.rest / 2)
        assert not first.busy(10.0 + DEFAULT_TIMING.rest)
        assert [one.url for one in servers.candidates(healths[1].url + "/")] == [healths[1].url]


@pytest.mark.asyncio
async def test_a_fault_suspends_a_server_while_there_is_another() -> None:
    async with watched(2) as (servers, healths):
        await eventually(lambda: all(one.usable for one in servers.candidates()), what="both")
        first, second = servers.candidates()
        servers.suspend(first.url, "it broke")
        assert [one.usable for one in servers.candidates()] == [True, False]
        assert servers.candidates()[1].detail == "it broke"
        assert servers.state()[1]["suspended"]["reason"] == "it broke"
        servers.suspend(second.url, "it broke too")
        assert all(one.usable for one in servers.candidates()), "nobody else is left: forgiven"
        assert [one.url for one in servers.candidates(healths[0].url + "/")] == [healths[0].url]
        assert servers.candidates("http://elsewhere") == []


@pytest.mark.asyncio
@pytest.mark.parametrize("gone", [False, True])
async def test_only_where_nothing_listens_an_open_offer_is_over(gone: bool) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    listening = await asyncio.start_server(cut, "127.0.0.1", 0)
    server = ComfyServer(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    if gone:
        listening.close()
        await listening.wait_closed()
    server.settle(asyncio.sleep(60))
    async with aiohttp.ClientSession() as http:
        watching = spawn(server.watch(http), name="test watch")
        await eventually(lambda: "cannot be reached" in server.trouble, what="its trouble")
        await asyncio.sleep(0)
        assert server.settling is not gone
        await cancel(watching)
    await server.stop()
    listening.close()


def test_a_server_that_was_never_asked_is_not_used() -> None:
    server = ComfyServer("http://gpu:8889")
    assert (server.healthy, server.trouble) == (False, "it has not been asked yet")


@pytest.mark.asyncio
async def test_a_password_in_its_url_goes_to_the_server_and_is_not_shown() -> None:
    async with aiohttp.ClientSession() as http:
        servers = ComfyServers(["http://me:pa55word@gpu:8889/"], http)
    (row,) = servers.state()
    assert row["url"] == "http://gpu:8889"
    assert servers.server("http://gpu:8889").url_with_password == "http://me:pa55word@gpu:8889"
    assert "pa55word" not in f"{servers.state()} {servers.reasons_not_ready()}"
