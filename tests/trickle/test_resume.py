"""Channels that one process publishes to and another goes on with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from gateway.aio import tasks
from gateway.trickle.control import JsonPublisher
from gateway.trickle.errors import ChannelClosed, ChannelLost
from gateway.trickle.events import JsonSubscriber
from gateway.trickle.publisher import TricklePublisher
from harness.waiting import eventually


@asynccontextmanager
async def running(publisher: TricklePublisher | JsonPublisher) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.get_running_loop().create_task(publisher.run())
    try:
        yield task
    finally:
        await tasks.cancel(task)


async def read(http: aiohttp.ClientSession, url: str) -> bytes:
    async with http.get(url) as response:
        assert response.status == 200
        return await response.read()


@pytest.mark.asyncio
async def test_a_publisher_goes_on_after_one_that_vanished_in_the_middle_of_a_segment(
    http: aiohttp.ClientSession, served: Any
) -> None:
    url = served.channel()
    async with running(former := TricklePublisher(http, url)):
        former.open_segment().write(b"zero")
        broken = former.open_segment()
        broken.write(b"one, cut")
        await eventually(lambda: former.buffered == 0, what="its bytes to go out")
    following = TricklePublisher(http, url, resume=True)
    segment = following.open_segment()
    segment.write(b"two")
    segment.close()
    async with running(following):
        assert await segment.wait_delivered()
        assert segment.seq == 2
        assert await read(http, f"{url}/1") == b"one, cut"
        assert await read(http, f"{url}/2") == b"two"
        assert following.dropped == 0
        await following.close()
    assert served.trickle.names() == []


@pytest.mark.asyncio
async def test_a_publisher_that_leaves_finishes_its_segment_and_keeps_the_channel(
    http: aiohttp.ClientSession, served: Any
) -> None:
    url = served.channel()
    async with running(former := TricklePublisher(http, url)):
        former.open_segment().write(b"zero")
        await eventually(lambda: former.buffered == 0, what="its bytes to go out")
        await former.close(leave=True)
    assert served.trickle.names() == ["c"]
    following = TricklePublisher(http, url, resume=True)
    async with running(following):
        segment = following.open_segment()
        segment.write(b"one")
        segment.close()
        assert await segment.wait_delivered()
        assert [await read(http, f"{url}/{seq}") for seq in (0, 1)] == [b"zero", b"one"]


@pytest.mark.asyncio
async def test_messages_go_on_too(http: aiohttp.ClientSession, served: Any) -> None:
    url, got = served.channel(), []
    for number in range(2):
        publisher = JsonPublisher(http, url, resume=number > 0)
        publisher.publish({"number": number})
        async with running(publisher):
            await eventually(lambda publisher=publisher: publisher.sent == 1, what="the message")
            await publisher.close(leave=True)
    async for message in JsonSubscriber(http, url):
        got.append(message["number"])
        if len(got) == 2:
            break
    assert got == [0, 1]


@pytest.mark.asyncio
async def test_a_channel_that_is_closed_or_a_server_that_is_gone_ends_it(
    http: aiohttp.ClientSession, served: Any, rogue: Any
) -> None:
    publisher = TricklePublisher(http, f"{served.root}/unknown", resume=True, retry_delay=0.01)
    with pytest.raises(ChannelClosed):
        await publisher.run()

    async def script(request: Any) -> None:
        request.answer(500)

    async with rogue(script) as server:
        publisher = TricklePublisher(http, server.url, resume=True, retry_delay=0.01)
        with pytest.raises(ChannelLost):
            await publisher.run()


@pytest.mark.asyncio
async def test_the_server_is_told_that_the_publisher_is_another_one(
    http: aiohttp.ClientSession, rogue: Any
) -> None:
    seen: list[tuple[str, bool]] = []

    async def script(request: Any) -> None:
        if request.method == "GET":
            request.answer(200, "Lp-Trickle-Latest: 7\r\n", b"7")
            return
        seen.append((request.path, "Lp-Trickle-Reset" in request.head))
        await request.body()
        request.answer(200)

    async with rogue(script) as server:
        publisher = TricklePublisher(http, server.url, resume=True)
        async with running(publisher):
            for _ in range(2):
                segment = publisher.open_segment()
                segment.write(b"x")
            await eventually(lambda: len(seen) == 3, what="three requests")
    assert seen == [("/c/7", True), ("/c/8", False), ("/c/9", False)]
