from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.aio import tasks
from gateway.trickle.control import MAX_BACKLOG, MAX_MESSAGE, JsonPublisher
from gateway.trickle.errors import ChannelClosed, ChannelLost
from gateway.trickle.events import JsonSubscriber, parse
from harness.waiting import DEADLINE, eventually


async def read(subscriber: JsonSubscriber, count: int) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    async with asyncio.timeout(DEADLINE):
        async for message in subscriber:
            seen.append(message)
            if len(seen) == count:
                break
    await subscriber.close()
    return seen


@pytest.mark.asyncio
async def test_messages_arrive_in_order_one_a_segment(http: aiohttp.ClientSession, served: Any) -> None:
    url = served.channel()
    publisher = JsonPublisher(http, url)
    sent = [{"prompt": "one"}, {"prompt": "zwei ü"}, {"nested": {"a": [1, 2]}}]
    for message in sent:
        assert publisher.publish(message)
    run = asyncio.get_running_loop().create_task(publisher.run())
    assert await read(JsonSubscriber(http, url), 3) == sent
    async with http.get(f"{url}/next") as response:
        assert await response.text() == "3"
    await publisher.close()
    await run
    assert publisher.sent == 3


@pytest.mark.asyncio
async def test_a_quiet_control_channel_is_kept_alive_and_its_reader_not_bothered(
    http: aiohttp.ClientSession, served: Any
) -> None:
    url = served.channel()
    publisher = JsonPublisher(http, url, keep_alive=0.02)
    run = asyncio.get_running_loop().create_task(publisher.run())
    while publisher.sent < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    async with http.get(f"{url}/0") as response:
        assert await response.json(content_type=None) == {"keep": "alive"}
    publisher.publish({"after": "quiet"})
    assert await read(JsonSubscriber(http, url), 1) == [{"after": "quiet"}]
    await tasks.cancel(run)
    await publisher.close()


@pytest.mark.asyncio
async def test_a_message_that_broke_off_is_sent_again(http: aiohttp.ClientSession, rogue: Any) -> None:
    taken: list[tuple[str, dict[str, Any]]] = []

    async def script(request: Any) -> None:
        if request.method == "DELETE":
            request.answer(200)
        elif request.path == "/c/0":
            await request.chunk()
            request.reset()
        else:
            taken.append((request.path, json.loads(await request.body())))
            request.answer(200)

    async with rogue(script) as server:
        publisher = JsonPublisher(http, server.url, keep_alive=None, retry_delay=0.02)
        run = asyncio.get_running_loop().create_task(publisher.run())
        publisher.publish({"kept": True})
        await eventually(lambda: publisher.sent)
        assert taken == [("/c/1", {"kept": True})]
        await tasks.cancel(run)


@pytest.mark.asyncio
async def test_a_server_that_takes_no_message_is_lost(http: aiohttp.ClientSession, rogue: Any) -> None:
    async def script(request: Any) -> None:
        if request.method == "POST":
            await request.body()
        request.answer(500)

    async with rogue(script) as server:
        publisher = JsonPublisher(http, server.url, retry_delay=0.02)
        publisher.publish({"never": "taken"})
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(ChannelLost):
                await publisher.run()


@pytest.mark.asyncio
async def test_a_full_backlog_and_a_long_message_are_refused_aloud(http: aiohttp.ClientSession) -> None:
    publisher = JsonPublisher(http, "http://127.0.0.1:9/c")
    assert all(publisher.publish({"n": n}) for n in range(MAX_BACKLOG))
    assert not publisher.publish({"one": "too many"})
    long = JsonPublisher(http, "http://127.0.0.1:9/c")
    assert [long.publish({"text": "x" * (MAX_MESSAGE - 20)}) for _ in range(3)] == [True, True, False]
    assert long.waiting_bytes <= 2 * MAX_MESSAGE
    with pytest.raises(ValueError, match="longer"):
        publisher.publish({"text": "x" * MAX_MESSAGE})
    with pytest.raises(ValueError, match="JSON"):
        publisher.publish({"number": float("nan")})


@pytest.mark.asyncio
async def test_what_is_no_message_is_counted_and_skipped(http: aiohttp.ClientSession, served: Any) -> None:
    url = served.channel()
    bodies = [b"{broken", b"", b"[1]", b'{"a":"' + b"x" * MAX_MESSAGE + b'"}', b'{"type":"status"}']
    for seq, body in enumerate(bodies):

        async def pieces(body: bytes = body) -> Any:
            yield body

        async with http.post(f"{url}/{seq}", data=pieces()):
            pass
    subscriber = JsonSubscriber(http, url)
    assert await read(subscriber, 1) == [{"type": "status"}]
    assert subscriber.unreadable == 3


@pytest.mark.asyncio
async def test_the_end_of_the_channel_ends_both_sides(http: aiohttp.ClientSession, served: Any) -> None:
    url = served.channel()
    publisher = JsonPublisher(http, url)
    run = asyncio.get_running_loop().create_task(publisher.run())
    publisher.publish({"type": "status"})
    seen = []
    with pytest.raises(ChannelClosed):
        async for message in JsonSubscriber(http, url):
            seen.append(message)
            served.trickle.terminate("c")
    assert seen == [{"type": "status"}]
    with pytest.raises(ChannelClosed):
        await run


def test_an_envelope_is_taken_off() -> None:
    event = {"type": "status", "fps": 30}
    wrapped = {"queue_event_type": "ai_stream_events", "event": event}
    assert parse(json.dumps(wrapped).encode()) == event
    assert parse(json.dumps(event).encode()) == event
    assert parse(b'{"queue_event_type": "x", "event": null}') is None


@given(st.binary(max_size=200) | st.integers(1, 5000).map(lambda depth: b"[" * depth))
def test_parsing_never_fails(data: bytes) -> None:
    assert parse(data) is None or isinstance(parse(data), dict)


@pytest.mark.asyncio
@pytest.mark.parametrize("message", ["{}", '{"keep": "alive"}', "7", "not json", "[" * 1000])
async def test_messages_that_say_nothing_are_not_read_without_end(
    http: aiohttp.ClientSession, rogue: Any, message: str
) -> None:
    async def script(request: Any) -> None:
        number = request.path.rpartition("/")[2]
        request.answer(200, f"Lp-Trickle-Seq: {number}\r\n", message.encode())

    async with rogue(script) as server:
        subscriber = JsonSubscriber(http, server.url, clock=lambda: 0.0)
        with pytest.raises(ChannelLost, match="without end"):
            async with asyncio.timeout(DEADLINE):
                async for _ in subscriber:
                    raise AssertionError("there is no message")


@pytest.mark.asyncio
async def test_a_message_above_the_readers_limit_is_passed_over(
    http: aiohttp.ClientSession, served: Any
) -> None:
    url = served.channel()
    publisher = JsonPublisher(http, url)
    publisher.publish({"long": "x" * 200})
    publisher.publish({"short": 1})
    run = asyncio.get_running_loop().create_task(publisher.run())
    subscriber = JsonSubscriber(http, url, max_message=100)
    assert await read(subscriber, 1) == [{"short": 1}]
    assert subscriber.unreadable == 1
    await publisher.close()
    await run


@pytest.mark.asyncio
async def test_no_more_than_a_megabyte_of_messages_is_read_in_a_second(
    http: aiohttp.ClientSession, rogue: Any
) -> None:
    async def script(request: Any) -> None:
        number = request.path.rpartition("/")[2]
        request.answer(200, f"Lp-Trickle-Seq: {number}\r\n", json.dumps({"long": "x" * 400_000}).encode())

    async with rogue(script) as server:
        subscriber = JsonSubscriber(http, server.url)
        began = time.monotonic()
        await read(subscriber, 4)
        assert time.monotonic() - began >= 0.8
