from __future__ import annotations

import asyncio
import io
import itertools
import time
import weakref
from contextlib import aclosing
from functools import partial
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from gateway.trickle import retries, wire
from gateway.trickle.errors import ChannelClosed, ChannelLost
from gateway.trickle.subscriber import MAX_EMPTY, MAX_SEGMENTS, TrickleSubscriber
from harness.insides import connections_in_use
from harness.waiting import DEADLINE, SLACK, eventually

quick_subscriber = partial(TrickleSubscriber, retry_delay=0.02)


async def read_all(subscriber: TrickleSubscriber) -> list[tuple[int, bytes]]:
    """Every segment until the channel is closed."""
    seen = []
    async with asyncio.timeout(DEADLINE):
        try:
            async for segment in subscriber.segments():
                data = b"".join([chunk async for chunk in segment.chunks()])
                seen.append((segment.seq, data))
        except ChannelClosed:
            return seen
    raise AssertionError("the channel has no end")


def seq_of(request: Any) -> int:
    return int(request.path.rpartition("/")[2])


@pytest.mark.asyncio
async def test_segments_come_in_order_and_the_next_is_asked_for_ahead(
    http: aiohttp.ClientSession, rogue: Any
) -> None:
    asked_ahead = asyncio.Event()

    async def script(request: Any) -> None:
        seq = seq_of(request)
        if seq == -1:
            request.writer.write(
                b"HTTP/1.1 200 OK\r\nLp-Trickle-Seq: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            request.writer.write(b"3\r\none\r\n")
            await asked_ahead.wait()
            request.writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
        elif seq == 5:
            asked_ahead.set()
            request.answer(200, "Lp-Trickle-Seq: 5\r\n", b"three")
        else:
            request.answer(200, "Lp-Trickle-Closed: terminated\r\n")

    async with rogue(script) as server:
        subscriber = quick_subscriber(http, server.url)
        assert await read_all(subscriber) == [(4, b"onetwo"), (5, b"three")]
        assert server.requests == ["GET /c/-1", "GET /c/5", "GET /c/6"]
        assert (subscriber.segments_read, subscriber.gaps) == (2, 0)


@pytest.mark.asyncio
async def test_404_is_the_end(http: aiohttp.ClientSession, rogue: Any) -> None:
    async def script(request: Any) -> None:
        request.answer(404)

    async with rogue(script) as server:
        assert await read_all(quick_subscriber(http, server.url)) == []


@pytest.mark.asyncio
async def test_470_leads_to_the_live_edge_and_the_gap_is_counted(
    http: aiohttp.ClientSession, rogue: Any
) -> None:
    async def script(request: Any) -> None:
        seq = seq_of(request)
        if seq in (0, 9):
            request.answer(200, f"Lp-Trickle-Seq: {seq}\r\n", b"data")
        elif seq < 9:
            request.answer(470, "Lp-Trickle-Latest: 9\r\n")
        else:
            request.answer(404)

    async with rogue(script) as server:
        subscriber = quick_subscriber(http, server.url, start=0)
        assert await read_all(subscriber) == [(0, b"data"), (9, b"data")]
        assert subscriber.gaps == 8


@pytest.mark.asyncio
async def test_470_that_leads_nowhere_is_not_asked_for_ever(http: aiohttp.ClientSession, rogue: Any) -> None:
    async def script(request: Any) -> None:
        request.answer(470, f"Lp-Trickle-Latest: {seq_of(request) + 1}\r\n")

    async with rogue(script) as server:
        with pytest.raises(ChannelLost, match="470"):
            await read_all(quick_subscriber(http, server.url, start=0))
        assert len(server.requests) <= 2 * retries.MAX_FAILURES


@pytest.mark.asyncio
async def test_empty_segments_are_passed_over(http: aiohttp.ClientSession, rogue: Any) -> None:
    async def script(request: Any) -> None:
        seq = seq_of(request)
        if seq == 3:
            request.answer(404)
        else:
            request.answer(200, f"Lp-Trickle-Seq: {seq}\r\n", b"data" if seq == 2 else b"")

    async with rogue(script) as server:
        subscriber = quick_subscriber(http, server.url, start=0)
        assert await read_all(subscriber) == [(0, b""), (1, b""), (2, b"data")]


@pytest.mark.asyncio
async def test_a_server_that_says_nothing_is_asked_anew(http: aiohttp.ClientSession, rogue: Any) -> None:
    async def script(request: Any) -> None:
        if len(server.requests) < 4:
            await request.hang()
        request.answer(404)

    async with rogue(script) as server:
        assert await read_all(quick_subscriber(http, server.url, start=2, ask_anew=0.05)) == []
        assert server.requests == ["GET /c/2"] * 4


@pytest.mark.asyncio
async def test_a_segment_that_breaks_off_is_marked_and_the_next_is_read(
    http: aiohttp.ClientSession, rogue: Any
) -> None:
    async def script(request: Any) -> None:
        seq = seq_of(request)
        if seq == 0:
            request.writer.write(
                b"HTTP/1.1 200 OK\r\nLp-Trickle-Seq: 0\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            request.writer.write(b"4\r\nhalf\r\n")
            await request.writer.drain()
            await eventually(lambda: len(server.requests) > 1)
            request.writer.close()
        elif seq == 1:
            request.answer(200, "Lp-Trickle-Seq: 1\r\n", b"whole")
        else:
            request.answer(404)

    async with rogue(script) as server:
        subscriber = quick_subscriber(http, server.url, start=0)
        assert await read_all(subscriber) == [(0, b"half"), (1, b"whole")]
        assert subscriber.truncated == 1


@pytest.mark.asyncio
async def test_a_reset_request_is_made_again(http: aiohttp.ClientSession, rogue: Any) -> None:
    async def script(request: Any) -> None:
        if len(server.requests) < 4:
            request.reset()
        request.answer(404)

    async with rogue(script) as server:
        assert await read_all(quick_subscriber(http, server.url, start=0)) == []


@pytest.mark.asyncio
async def test_a_dead_server_is_known_by_its_connections(http: aiohttp.ClientSession, rogue: Any) -> None:
    async def script(request: Any) -> None:
        await request.hang()

    async with rogue(script) as server:
        reading = asyncio.get_running_loop().create_task(read_all(quick_subscriber(http, server.url)))
        await eventually(lambda: server.requests)
        await server.die()
        async with asyncio.timeout(SLACK):
            with pytest.raises(ChannelLost):
                await reading


@pytest.mark.asyncio
async def test_of_a_subscriber_whose_server_died_in_mid_segment_nothing_stays_in_memory(
    http: aiohttp.ClientSession, rogue: Any, without_collector: None
) -> None:
    async def script(request: Any) -> None:
        if seq_of(request):
            await request.hang()
        request.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n")
        await request.hang()

    async with rogue(script) as server:
        subscriber = quick_subscriber(http, server.url, start=0)
        reading = asyncio.get_running_loop().create_task(read_all(subscriber))
        await eventually(lambda: len(server.requests) == 2)
        await server.die()
        with pytest.raises(ChannelLost):
            await reading
    gone = weakref.ref(subscriber)
    del subscriber, reading
    await eventually(lambda: gone() is None)


@pytest.mark.asyncio
async def test_a_server_that_only_fails_is_lost(http: aiohttp.ClientSession, rogue: Any) -> None:
    async def script(request: Any) -> None:
        request.answer(500)

    async with rogue(script) as server:
        with pytest.raises(ChannelLost, match="500"):
            await read_all(quick_subscriber(http, server.url))
        assert len(server.requests) == retries.MAX_FAILURES


@pytest.mark.asyncio
async def test_what_is_left_of_a_segment_is_skipped(http: aiohttp.ClientSession, served: Any) -> None:
    url = served.channel()
    for seq in range(2):
        async with http.post(f"{url}/{seq}", data=b"x" * 1_000_000):
            pass
    subscriber = quick_subscriber(http, url, start=0)
    seen = []
    async with aclosing(subscriber.segments()) as segments:
        async for segment in segments:
            seen.append(segment.seq)
            if len(seen) == 2:
                break
    assert seen == [0, 1]


@pytest.mark.asyncio
async def test_a_slow_reader_is_cut_and_skips_to_the_live_edge(
    http: aiohttp.ClientSession, served: Any
) -> None:
    url = served.channel()

    async def publish(seq: int, size: int) -> None:
        async with http.post(f"{url}/{seq}", data=io.BytesIO(b"x" * size)) as response:
            assert response.status == 200

    async def go_on() -> None:
        for seq in itertools.count(9):
            await publish(seq, 10)
            await asyncio.sleep(0.02)

    await publish(0, 16_000_000)
    subscriber = quick_subscriber(http, url, start=0)
    seen = []
    async with asyncio.TaskGroup() as group, aclosing(subscriber.segments()) as segments:
        async for segment in segments:
            chunks = segment.chunks()
            await anext(chunks)
            if not seen:
                for seq in range(1, 9):
                    await publish(seq, 10)
                going_on = group.create_task(go_on())
            async for _ in chunks:
                pass
            seen.append(segment.seq)
            if segment.seq >= 9:
                break
        going_on.cancel()
    assert seen[0] == 0
    assert subscriber.truncated == 1
    assert subscriber.gaps >= 7


@pytest.mark.asyncio
async def test_closing_ends_an_iteration_in_another_task(http: aiohttp.ClientSession, served: Any) -> None:
    subscriber = quick_subscriber(http, served.channel())

    async def read() -> int:
        return len([segment async for segment in subscriber.segments()])

    reading = asyncio.get_running_loop().create_task(read())
    await eventually(lambda: connections_in_use(http))
    await subscriber.close()
    assert await reading == 0


@pytest.mark.asyncio
async def test_closing_gives_up_what_is_under_way(http: aiohttp.ClientSession, served: Any) -> None:
    before = len(asyncio.all_tasks())
    url = served.channel()
    async with http.post(f"{url}/0", data=b"x"):
        pass
    subscriber = quick_subscriber(http, url, start=wire.NEWEST)
    segments = subscriber.segments()
    assert (await anext(segments)).seq == 0
    await subscriber.close()
    await eventually(lambda: not connections_in_use(http))
    served.trickle.terminate("c")
    await http.close()
    await eventually(lambda: len(asyncio.all_tasks()) == before)
    with pytest.raises(StopAsyncIteration):
        await anext(segments)


@pytest.mark.asyncio
async def test_empty_segments_without_end_are_not_asked_for(http: aiohttp.ClientSession, rogue: Any) -> None:
    asked = 0

    async def script(request: Any) -> None:
        nonlocal asked
        asked += 1
        request.answer(200, f"Lp-Trickle-Seq: {seq_of(request)}\r\n", b"")

    async with rogue(script) as server:
        subscriber = TrickleSubscriber(http, server.url, start=0, clock=lambda: 0.0)
        with pytest.raises(ChannelLost, match="empty segments without end"):
            async with asyncio.timeout(DEADLINE):
                async for segment in subscriber.segments():
                    assert await segment.read(100) == b""
    assert asked <= MAX_EMPTY + 2


@pytest.mark.asyncio
async def test_segments_of_a_byte_without_end_are_read_at_a_pace(
    http: aiohttp.ClientSession, rogue: Any
) -> None:
    async def script(request: Any) -> None:
        request.answer(200, f"Lp-Trickle-Seq: {seq_of(request) + 5}\r\n", b"G")

    async with rogue(script) as server:
        subscriber = TrickleSubscriber(http, server.url, start=0)
        begun = time.monotonic()
        with capture_logs() as logs:
            async with asyncio.timeout(DEADLINE), aclosing(subscriber.segments()) as segments:
                async for segment in segments:
                    assert await segment.read(100) == b"G"
                    if subscriber.segments_read > MAX_SEGMENTS + 1:
                        break
    took = time.monotonic() - begun
    assert took > 0.9, "the rest of a second is waited for"
    assert len(server.requests) <= MAX_SEGMENTS * (1 + int(took)) + 3
    warnings = [entry for entry in logs if entry["event"] == "segments missed"]
    assert 0 < len(warnings) <= took + 1
    assert subscriber.gaps >= 5 * MAX_SEGMENTS
