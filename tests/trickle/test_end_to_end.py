"""Publisher and subscriber through the devnet's server."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import aiohttp
import pytest

from gateway.aio import tasks
from gateway.trickle.errors import ChannelClosed
from gateway.trickle.publisher import TricklePublisher
from gateway.trickle.subscriber import TrickleSubscriber
from harness.insides import connections_in_use
from harness.waiting import DEADLINE, eventually


@pytest.mark.asyncio
async def test_every_byte_arrives_once_and_in_order(http: aiohttp.ClientSession, served: Any) -> None:
    url = served.channel()
    publisher, subscriber = TricklePublisher(http, url), TrickleSubscriber(http, url, start=0)
    run = asyncio.get_running_loop().create_task(publisher.run())
    seen: list[tuple[int, bytes]] = []

    async def read() -> None:
        async for segment in subscriber.segments():
            seen.append((segment.seq, b"".join([chunk async for chunk in segment.chunks()])))  # noqa: PERF401

    reading = asyncio.get_running_loop().create_task(read())
    for seq in range(20):
        segment = publisher.open_segment()
        for frame in range(10):
            assert segment.write(b"%d.%d " % (seq, frame) * 100)
            await asyncio.sleep(0)
        segment.close()
        assert await segment.wait_delivered()
        # retention is five segments: a publisher faster than its reader would rightly lose some
        await eventually(lambda seq=seq: len(seen) > seq)
    await publisher.close()
    with pytest.raises(ChannelClosed):
        await reading
    await run
    assert seen == [
        (seq, b"".join(b"%d.%d " % (seq, frame) * 100 for frame in range(10))) for seq in range(20)
    ]
    assert (publisher.dropped, subscriber.gaps, subscriber.truncated) == (0, 0, 0)


@pytest.mark.asyncio
async def test_a_frame_reaches_the_reader_while_its_segment_is_open(
    http: aiohttp.ClientSession, served: Any
) -> None:
    url = served.channel()
    publisher, subscriber = TricklePublisher(http, url), TrickleSubscriber(http, url)
    run = asyncio.get_running_loop().create_task(publisher.run())
    segments = subscriber.segments()
    await eventually(lambda: connections_in_use(http))
    writer = publisher.open_segment()
    asyncio.get_running_loop().call_later(0.05, writer.write, b"frame 0")
    chunks = (await anext(segments)).chunks()
    assert await anext(chunks) == b"frame 0"
    took = []
    for number in range(1, 30):
        begun = time.perf_counter()
        writer.write(b"frame %d" % number)
        assert await anext(chunks) == b"frame %d" % number
        took.append(time.perf_counter() - begun)
    assert not writer.closed
    assert sorted(took)[len(took) // 2] < 0.1  # through two connections; typically under a millisecond
    await subscriber.close()
    await publisher.close()
    await run


@pytest.mark.asyncio
async def test_a_cancelled_reader_leaves_nothing_behind(http: aiohttp.ClientSession, served: Any) -> None:
    url = served.channel()
    publisher, subscriber = TricklePublisher(http, url), TrickleSubscriber(http, url)
    run = asyncio.get_running_loop().create_task(publisher.run())
    got = asyncio.Event()

    async def read() -> None:
        async for segment in subscriber.segments():
            async for _ in segment.chunks():
                got.set()

    reading = asyncio.get_running_loop().create_task(read())
    await eventually(lambda: connections_in_use(http) == 2)
    publisher.open_segment().write(b"frame")
    await got.wait()
    await tasks.cancel(reading)
    await tasks.cancel(run)
    await publisher.close()
    await eventually(lambda: not connections_in_use(http))


@pytest.mark.asyncio
async def test_a_reader_may_come_and_go_while_the_publisher_goes_on(
    http: aiohttp.ClientSession, served: Any
) -> None:
    url = served.channel()
    publisher = TricklePublisher(http, url)
    run = asyncio.get_running_loop().create_task(publisher.run())

    async def publish() -> None:
        for number in itertools.count():
            segment = publisher.open_segment()
            segment.write(b"%d" % number)
            segment.close()
            await segment.wait_delivered()
            await asyncio.sleep(0.01)

    publishing = asyncio.get_running_loop().create_task(publish())
    for _ in range(3):
        subscriber = TrickleSubscriber(http, url)
        numbers = []
        async with asyncio.timeout(DEADLINE):
            async for segment in subscriber.segments():
                assert await segment.read(100) == b"%d" % segment.seq
                numbers.append(segment.seq)
                if len(numbers) == 3:
                    break
        await subscriber.close()
        assert numbers == sorted(numbers)
    await tasks.cancel(publishing, run)
