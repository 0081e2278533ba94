from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import pytest

from gateway.aio import tasks
from gateway.trickle import retries
from gateway.trickle.errors import ChannelClosed, ChannelLost
from gateway.trickle.publisher import TricklePublisher
from harness.insides import connections_in_use
from harness.waiting import DEADLINE, SLACK, eventually

quick_publisher = partial(TricklePublisher, retry_delay=0.02)


@asynccontextmanager
async def running(publisher: TricklePublisher) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.get_running_loop().create_task(publisher.run())
    try:
        yield task
    finally:
        await tasks.cancel(task)


@pytest.mark.asyncio
async def test_the_next_post_is_open_before_the_first_byte_and_before_the_former_ends(
    http: aiohttp.ClientSession, rogue: Any
) -> None:
    events: list[str] = []

    async def script(request: Any) -> None:
        events.append(f"open {request.path}")
        assert "Content-Type: video/MP2T" in request.head
        assert "Transfer-Encoding: chunked" in request.head
        body = await request.body()
        events.append(f"end {request.path} {body.decode()}")
        request.answer(200)

    async with rogue(script) as server:
        publisher = quick_publisher(http, server.url)
        async with running(publisher):
            await eventually(lambda: events == ["open /c/0"])
            first = publisher.open_segment()
            await eventually(lambda: "open /c/1" in events)
            first.write(b"first")
            second = publisher.open_segment()
            second.write(b"second")
            await eventually(lambda: "open /c/2" in events and "end /c/0 first" in events)
            assert events.index("open /c/1") < events.index("end /c/0 first")
            second.close()
            assert await second.wait_delivered()
            assert "end /c/1 second" in events
            assert (publisher.segments, publisher.dropped, publisher.in_flight) == (2, 0, 0)


@pytest.mark.asyncio
async def test_each_write_leaves_at_once(http: aiohttp.ClientSession, rogue: Any) -> None:
    chunks: list[bytes] = []

    async def script(request: Any) -> None:
        while chunk := await request.chunk():
            chunks.append(chunk)
        request.answer(200)

    async with rogue(script) as server:
        publisher = quick_publisher(http, server.url)
        async with running(publisher):
            segment = publisher.open_segment()
            for number in range(5):
                assert segment.write(b"frame %d" % number)
                await eventually(lambda number=number: len(chunks) == number + 1)
            assert publisher.buffered == 0
            segment.close()
            assert not segment.write(b"late")


@pytest.mark.asyncio
async def test_interim_answers_do_not_end_an_idle_post(http: aiohttp.ClientSession, rogue: Any) -> None:
    async def script(request: Any) -> None:
        for _ in range(3):
            request.interim()
            await asyncio.sleep(0.01)
        assert await request.body() == b"after"
        request.answer(200)

    async with rogue(script) as server:
        publisher = quick_publisher(http, server.url)
        async with running(publisher):
            await eventually(lambda: len(server.requests) == 1)
            await asyncio.sleep(0.05)
            segment = publisher.open_segment()
            segment.write(b"after")
            segment.close()
            assert await segment.wait_delivered()
            await eventually(lambda: server.requests == ["POST /c/0", "POST /c/1"])


@pytest.mark.asyncio
async def test_404_ends_the_channel(http: aiohttp.ClientSession, rogue: Any) -> None:
    async def script(request: Any) -> None:
        request.answer(404)

    async with rogue(script) as server:
        publisher = quick_publisher(http, server.url)
        with pytest.raises(ChannelClosed):
            await publisher.run()
        assert not publisher.open_segment().write(b"too late")
        assert publisher.in_flight == publisher.buffered == 0


@pytest.mark.asyncio
async def test_404_in_the_middle_of_a_segment_ends_the_channel(
    http: aiohttp.ClientSession, rogue: Any
) -> None:
    async def script(request: Any) -> None:
        if request.path == "/c/0":
            await request.chunk()
            request.answer(404)
        await request.hang()

    async with rogue(script) as server:
        publisher = quick_publisher(http, server.url)
        async with running(publisher) as run:
            segment = publisher.open_segment()
            segment.write(b"half")
            with pytest.raises(ChannelClosed):
                await run
            assert not segment.write(b"more")


@pytest.mark.asyncio
async def test_terminated_ends_the_channel(http: aiohttp.ClientSession, rogue: Any) -> None:
    async def script(request: Any) -> None:
        request.answer(200, "Lp-Trickle-Closed: terminated\r\n")

    async with rogue(script) as server:
        with pytest.raises(ChannelClosed):
            await quick_publisher(http, server.url).run()


@pytest.mark.asyncio
async def test_470_moves_on_to_the_number_that_the_server_wants(
    http: aiohttp.ClientSession, rogue: Any
) -> None:
    bodies: dict[str, bytes] = {}

    async def script(request: Any) -> None:
        if int(request.path[3:]) < 7:
            request.answer(470, "Lp-Trickle-Latest: 7\r\n")
            return
        bodies[request.path] = await request.body()
        request.answer(200)

    async with rogue(script) as server:
        publisher = quick_publisher(http, server.url)
        async with running(publisher):
            await eventually(lambda: "POST /c/7" in server.requests)
            for data in (b"a", b"b"):
                segment = publisher.open_segment()
                segment.write(data)
                segment.close()
                assert await segment.wait_delivered()
        assert bodies == {"/c/7": b"a", "/c/8": b"b"}


@pytest.mark.asyncio
async def test_a_reset_idle_post_is_opened_again(http: aiohttp.ClientSession, rogue: Any) -> None:
    async def script(request: Any) -> None:
        if server.requests.count("POST /c/0") < 3:
            request.reset()
        assert await request.body() == b"kept"
        request.answer(200)

    async with rogue(script) as server:
        publisher = quick_publisher(http, server.url)
        async with running(publisher):
            segment = publisher.open_segment()
            await eventually(lambda: server.requests.count("POST /c/0") == 3)
            segment.write(b"kept")
            segment.close()
            assert await segment.wait_delivered()
        assert publisher.dropped == 0


@pytest.mark.asyncio
async def test_a_segment_that_broke_off_is_given_up_and_the_next_goes_on(
    http: aiohttp.ClientSession, rogue: Any
) -> None:
    async def script(request: Any) -> None:
        if request.method == "DELETE":
            request.answer(200)
        elif request.path == "/c/0":
            await request.chunk()
            request.reset()
        else:
            assert await request.body() == b"next"
            request.answer(200)

    async with rogue(script) as server:
        publisher = quick_publisher(http, server.url)
        async with running(publisher):
            broken = publisher.open_segment()
            broken.write(b"half")
            await eventually(lambda: "DELETE /c/0" in server.requests)
            assert not broken.write(b"more")
            following = publisher.open_segment()
            following.write(b"next")
            following.close()
            assert await following.wait_delivered()
            assert server.requests.count("POST /c/0") == 1
            assert (publisher.dropped, publisher.slow) == (1, False)


@pytest.mark.asyncio
async def test_a_dead_server_is_known_by_its_connections(http: aiohttp.ClientSession, rogue: Any) -> None:
    async def script(request: Any) -> None:
        await request.hang()

    async with rogue(script) as server:
        publisher = quick_publisher(http, server.url)
        async with running(publisher) as run:
            await eventually(lambda: server.requests)
            await server.die()
            async with asyncio.timeout(SLACK):
                with pytest.raises(ChannelLost):
                    await run


@pytest.mark.asyncio
async def test_a_server_that_resets_everything_is_lost_after_six_tries(
    http: aiohttp.ClientSession, rogue: Any
) -> None:
    async def script(request: Any) -> None:
        request.reset()

    async with rogue(script) as server:
        with pytest.raises(ChannelLost):
            await quick_publisher(http, server.url).run()
        assert len(server.requests) == retries.MAX_FAILURES


@pytest.mark.asyncio
async def test_a_server_that_only_fails_is_lost(http: aiohttp.ClientSession, rogue: Any) -> None:
    async def script(request: Any) -> None:
        request.answer(503)

    async with rogue(script) as server:
        with pytest.raises(ChannelLost, match="503"):
            await quick_publisher(http, server.url).run()


async def begin_three(publisher: TricklePublisher, server: Any) -> None:
    """Begin three segments, and wait for the POST of the one to come."""
    for _ in range(3):
        publisher.open_segment().write(b"x")
    await eventually(lambda: "POST /c/3" in server.requests)


@pytest.mark.asyncio
async def test_more_than_three_segments_in_flight_drop_the_oldest(
    http: aiohttp.ClientSession, rogue: Any
) -> None:
    stalled = True

    async def script(request: Any) -> None:
        if request.method == "DELETE":
            request.answer(200)
            return
        await request.body()
        if stalled:
            await request.hang()
        request.answer(200)

    async with rogue(script) as server:
        publisher = quick_publisher(http, server.url)
        async with running(publisher):
            await begin_three(publisher, server)
            assert (publisher.in_flight, publisher.dropped, publisher.slow) == (3, 0, False)
            publisher.open_segment().write(b"x")
            assert (publisher.in_flight, publisher.dropped, publisher.slow) == (3, 1, True)
            await eventually(lambda: "DELETE /c/0" in server.requests)
            stalled = False
            segment = publisher.open_segment()
            segment.write(b"x")
            segment.close()
            assert await segment.wait_delivered()
            assert not publisher.slow


@pytest.mark.asyncio
async def test_whole_segments_that_nobody_took_by_the_end_are_counted(
    http: aiohttp.ClientSession, rogue: Any
) -> None:
    async def script(request: Any) -> None:
        await request.hang()

    async with rogue(script) as server:
        publisher = quick_publisher(http, server.url)
        async with running(publisher):
            await begin_three(publisher, server)
            assert publisher.dropped == 0
        # the third was still being written
        assert (publisher.in_flight, publisher.buffered, publisher.dropped) == (0, 0, 2)


@pytest.mark.asyncio
async def test_a_server_that_takes_nothing_costs_no_more_than_the_buffer(
    http: aiohttp.ClientSession, rogue: Any
) -> None:
    never = asyncio.Event()

    async def script(request: Any) -> None:
        if request.method == "DELETE":
            request.answer(200)
        else:
            await never.wait()

    async with rogue(script) as server:
        publisher = quick_publisher(http, server.url, max_buffer=1_000_000)
        frame = b"x" * 100_000
        async with running(publisher):
            await eventually(lambda: server.requests)
            segment = publisher.open_segment()
            written = 0
            while segment.write(frame) and written < 1000:
                written += 1
                assert publisher.buffered <= 1_000_000
                await asyncio.sleep(0)
            assert segment.dropped
            assert written < 1000
            assert (publisher.buffered, publisher.dropped, publisher.slow) == (0, 1, True)
            assert publisher.open_segment().write(frame)
            await eventually(lambda: "DELETE /c/0" in server.requests)


@pytest.mark.asyncio
async def test_a_full_buffer_gives_up_the_older_segment_first(http: aiohttp.ClientSession) -> None:
    publisher = quick_publisher(http, "http://127.0.0.1:9/c", max_buffer=100)
    older, newer = publisher.open_segment(), None
    assert older.write(b"x" * 80)
    newer = publisher.open_segment()
    assert newer.write(b"y" * 60)
    assert (older.dropped, newer.dropped, publisher.buffered) == (True, False, 60)
    assert not newer.write(b"y" * 101)
    assert publisher.buffered == 0


@pytest.mark.asyncio
async def test_closing_delivers_what_is_in_flight_deletes_the_channel_and_ends_the_run(
    http: aiohttp.ClientSession, served: Any
) -> None:
    publisher = quick_publisher(http, served.channel())
    async with running(publisher) as run:
        segment = publisher.open_segment()
        segment.write(b"last words")
        await eventually(lambda: publisher.buffered == 0)
        await publisher.close()
        assert segment.delivered
        async with asyncio.timeout(DEADLINE):
            await run
    assert served.trickle.names() == []
    assert not publisher.open_segment().write(b"too late")
    await publisher.close()


@pytest.mark.asyncio
async def test_closing_needs_no_run_and_no_server(http: aiohttp.ClientSession, served: Any) -> None:
    await quick_publisher(http, served.channel()).close()
    assert served.trickle.names() == []
    await quick_publisher(http, "http://127.0.0.1:9/c").close()


@pytest.mark.asyncio
async def test_a_cancelled_run_leaves_no_task_and_no_connection(
    http: aiohttp.ClientSession, served: Any
) -> None:
    before = len(asyncio.all_tasks())
    publisher = quick_publisher(http, served.channel())
    async with running(publisher):
        publisher.open_segment().write(b"x")
        publisher.open_segment().write(b"y")
        await eventually(lambda: publisher.buffered == 0)
    assert not connections_in_use(http)
    served.trickle.terminate("c")
    await http.close()
    await eventually(lambda: len(asyncio.all_tasks()) == before)
