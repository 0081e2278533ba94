"""A server that hangs is told from one that is slow or silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.trickle.errors import ChannelLost
from gateway.trickle.liveness import Liveness, LivenessTiming
from harness.serving import serving
from harness.waiting import DEADLINE, eventually

TIMING = LivenessTiming(doubt=0.05, patience=0.15, longest_patience=0.5, ask_anyway=0.5, pause=0.01)
"""The defaults, ten times shorter."""


class Server:
    """Answers after `takes` seconds, with any status."""

    def __init__(self) -> None:
        self.takes = 0.0
        self.status = 200
        self.asked = 0
        self.url = ""

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        await asyncio.sleep(self.takes)
        return web.Response(status=self.status)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    async with serving(web.get("/c/next", server.answer)) as url:
        server.url = url + "/c"
        yield server


class Silence:
    """Seconds without a sign of life, as the test says."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


async def to_blame() -> bool:
    return True


async def asked_often(server: Server, watching: asyncio.Task[None], times: int) -> None:
    until = server.asked + times
    await eventually(lambda: server.asked >= until or watching.done(), every=0.005)


@pytest.mark.asyncio
async def test_a_server_that_neither_sends_nor_answers_is_lost(
    server: Server, http: aiohttp.ClientSession
) -> None:
    server.takes = 60
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(ChannelLost, match="answered nothing"):
            await Liveness(http, server.url, Silence(9), is_to_blame=to_blame, timing=TIMING).run()


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [200, 404, 500])
async def test_a_server_that_answers_is_never_blamed_for_its_silent_worker(
    server: Server, http: aiohttp.ClientSession, status: int
) -> None:
    server.status = status
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(
            Liveness(http, server.url, Silence(9), is_to_blame=to_blame, timing=TIMING).run()
        )
        await asked_often(server, watching, 10)
        assert not watching.done()
        watching.cancel()


@pytest.mark.asyncio
async def test_a_silent_server_is_not_lost_while_something_else_is_to_blame(
    server: Server, http: aiohttp.ClientSession
) -> None:
    server.takes = 60
    verdicts = [False, False, True]

    async def is_to_blame() -> bool:
        return verdicts.pop(0)

    async with asyncio.timeout(DEADLINE):
        with pytest.raises(ChannelLost, match="answered nothing"):
            await Liveness(http, server.url, Silence(9), is_to_blame=is_to_blame, timing=TIMING).run()
    assert verdicts == []


@pytest.mark.asyncio
async def test_no_answer_counts_for_nothing_while_pictures_come(
    server: Server, http: aiohttp.ClientSession
) -> None:
    server.takes = 60
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(
            Liveness(http, server.url, Silence(0), is_to_blame=to_blame, timing=TIMING).run()
        )
        await asked_often(server, watching, 3)
        assert not watching.done()
        watching.cancel()


@pytest.mark.asyncio
async def test_a_long_way_to_the_server_makes_more_patient(
    server: Server, http: aiohttp.ClientSession
) -> None:
    server.takes = 0.1
    silence = Silence(0)
    liveness = Liveness(http, server.url, silence, is_to_blame=to_blame, timing=TIMING)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(liveness.run())
        await asked_often(server, watching, 2)
        assert liveness.patience > 0.3
        server.takes, silence.seconds = 0.25, 9
        await asked_often(server, watching, 3)
        assert not watching.done()
        watching.cancel()
