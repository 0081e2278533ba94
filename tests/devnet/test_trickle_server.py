"""The server against the protocol's table, byte by byte over plain sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from yarl import URL

from gateway.devnet.trickle_server import TrickleServer
from harness.serving import serving, trickle_app
from harness.waiting import DEADLINE, eventually


class Wire:
    """One raw HTTP/1.1 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, text: str) -> None:
        self.writer.write(text.replace("\n", "\r\n").encode())

    def post(self, path: str, extra: str = "") -> None:
        self.send(f"POST {path} HTTP/1.1\nHost: x\nContent-Type: video/MP2T\n")
        self.send(f"Transfer-Encoding: chunked\n{extra}\n")

    def request(self, method: str, path: str) -> None:
        self.send(f"{method} {path} HTTP/1.1\nHost: x\n\n")

    def chunk(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(DEADLINE):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = (line.split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), {name.lower(): value for name, value in fields}

    async def read_chunk(self) -> bytes:
        async with asyncio.timeout(DEADLINE):
            size = int(await self.reader.readline(), 16)
            data = await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        return data

    async def silent(self) -> bool:
        """Nothing comes for a moment."""
        try:
            async with asyncio.timeout(0.05):
                await self.reader.readexactly(1)
        except TimeoutError:
            return True
        return False

    async def aclose(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


class Bench:
    """A server with one channel `c`, and connections to it."""

    def __init__(self, server: TrickleServer, port: int) -> None:
        self.server = server
        self.port = port
        self.wires: list[Wire] = []

    async def wire(self, limit: int = 2**16) -> Wire:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port, limit=limit))
        self.wires.append(wire)
        return wire

    async def ask(self, method: str, path: str) -> tuple[int, dict[str, str]]:
        wire = await self.wire()
        wire.request(method, path)
        return await wire.head()

    async def publish(self, seq: int, data: bytes) -> tuple[int, dict[str, str]]:
        wire = await self.wire()
        wire.post(f"/ai/trickle/c/{seq}")
        if data:
            wire.chunk(data)
        wire.send("0\n\n")
        return await wire.head()


@asynccontextmanager
async def bench(server: TrickleServer) -> AsyncIterator[Bench]:
    async with serving(app=trickle_app(server)) as url:
        opened = Bench(server, URL(url).port or 0)
        try:
            yield opened
        finally:
            for wire in opened.wires:
                await wire.aclose()


@asynccontextmanager
async def channel(**options: float) -> AsyncIterator[Bench]:
    server = TrickleServer(**options)  # type: ignore[arg-type]
    server.create("c")
    async with bench(server) as opened:
        yield opened


@pytest.mark.asyncio
async def test_a_channel_that_was_not_created_is_404_to_everyone() -> None:
    async with channel() as at:
        assert (await at.ask("GET", "/ai/trickle/other/0"))[0] == 404
        assert (await at.ask("GET", "/ai/trickle/other/next"))[0] == 404
        post = await at.wire()
        post.post("/ai/trickle/other/0")
        assert (await post.head())[0] == 404
        assert (await at.ask("DELETE", "/ai/trickle/other"))[0] == 400
        assert (await at.ask("DELETE", "/ai/trickle/c/7"))[0] == 400
        assert at.server.names() == ["c"]


@pytest.mark.asyncio
async def test_a_chunk_reaches_the_reader_while_its_segment_is_still_open() -> None:
    async with channel() as at:
        get = await at.wire()
        get.request("GET", "/ai/trickle/c/-1")
        post = await at.wire()
        post.post("/ai/trickle/c/0")
        assert await get.silent()  # no headers before the first byte
        post.chunk(b"one")
        status, headers = await get.head()
        assert (status, headers["lp-trickle-seq"], headers["content-type"]) == (200, "0", "video/MP2T")
        assert await get.read_chunk() == b"one"
        post.chunk(b"two")
        assert await get.read_chunk() == b"two"
        post.send("0\n\n")
        assert (await post.head())[0] == 200
        assert await get.read_chunk() == b""


@pytest.mark.asyncio
async def test_minus_one_is_the_next_segment_and_minus_two_the_newest() -> None:
    async with channel() as at:
        await at.publish(0, b"zero")
        await at.publish(1, b"one")
        newest = await at.wire()
        newest.request("GET", "/ai/trickle/c/-2")
        assert (await newest.head())[1]["lp-trickle-seq"] == "1"
        following = await at.wire()
        following.request("GET", "/ai/trickle/c/-1")
        assert await following.silent()
        await at.publish(2, b"two")
        assert (await following.head())[1]["lp-trickle-seq"] == "2"


@pytest.mark.asyncio
async def test_minus_two_waits_for_the_first_segment_of_a_fresh_channel() -> None:
    async with channel() as at:
        get = await at.wire()
        get.request("GET", "/ai/trickle/c/-2")
        assert await get.silent()
        await at.publish(0, b"zero")
        assert (await get.head())[1]["lp-trickle-seq"] == "0"


@pytest.mark.asyncio
async def test_next_is_told_as_text_and_header() -> None:
    async with channel() as at:
        await at.publish(0, b"zero")
        wire = await at.wire()
        wire.request("GET", "/ai/trickle/c/next")
        status, headers = await wire.head()
        assert (status, headers["lp-trickle-latest"]) == (200, "1")
        assert await wire.reader.readexactly(1) == b"1"


@pytest.mark.asyncio
async def test_the_last_five_segments_are_kept_and_others_are_470() -> None:
    async with channel() as at:
        for seq in range(7):
            await at.publish(seq, b"%d" % seq)
        assert (await at.ask("GET", "/ai/trickle/c/2"))[0] == 200
        for gone in (1, 8, -3):
            status, headers = await at.ask("GET", f"/ai/trickle/c/{gone}")
            assert (status, headers["lp-trickle-latest"]) == (470, "7")


@pytest.mark.asyncio
async def test_a_post_to_a_used_number_is_470() -> None:
    async with channel() as at:
        await at.publish(0, b"zero")
        assert (await at.publish(0, b"again"))[1]["lp-trickle-latest"] == "1"
        assert (await at.publish(99, b"far ahead"))[0] == 470


@pytest.mark.asyncio
async def test_an_idle_post_gets_interim_answers_and_then_its_own() -> None:
    async with channel(continue_interval=0.02) as at:
        post = await at.wire()
        post.post("/ai/trickle/c/0")
        assert (await post.head())[0] == 100
        assert (await post.head())[0] == 100
        post.chunk(b"late")
        post.send("0\n\n")
        while (status := (await post.head())[0]) == 100:
            pass
        assert status == 200


@pytest.mark.asyncio
async def test_a_post_closed_without_bytes_uses_up_its_number() -> None:
    async with channel() as at:
        get = await at.wire()
        get.request("GET", "/ai/trickle/c/0")
        assert await get.silent()
        assert (await at.publish(0, b""))[0] == 200
        status, headers = await get.head()
        assert (status, headers["lp-trickle-seq"], headers["content-length"]) == (200, "0", "0")
        assert (await at.ask("GET", "/ai/trickle/c/next"))[1]["lp-trickle-latest"] == "1"


@pytest.mark.asyncio
async def test_a_connection_that_breaks_before_the_first_byte_leaves_its_number_free() -> None:
    async with channel() as at:
        post = await at.wire()
        post.post("/ai/trickle/c/0")
        post.writer.transport.abort()
        assert (await at.publish(0, b"again"))[0] == 200


@pytest.mark.asyncio
async def test_a_connection_that_breaks_later_ends_the_segment_for_its_readers() -> None:
    async with channel() as at:
        get = await at.wire()
        get.request("GET", "/ai/trickle/c/0")
        post = await at.wire()
        post.post("/ai/trickle/c/0")
        post.chunk(b"half")
        await get.head()
        assert await get.read_chunk() == b"half"
        post.writer.transport.abort()
        assert await get.read_chunk() == b""


@pytest.mark.asyncio
async def test_a_new_post_takes_the_place_of_an_idle_one() -> None:
    async with channel() as at:
        idle = await at.wire()
        idle.post("/ai/trickle/c/0")
        assert await idle.silent()
        assert (await at.publish(0, b"mine"))[0] == 200
        assert (await idle.head())[0] == 200


@pytest.mark.asyncio
async def test_giving_up_a_segment_frees_its_readers() -> None:
    async with channel() as at:
        post = await at.wire()
        post.post("/ai/trickle/c/0")
        get = await at.wire()
        get.request("GET", "/ai/trickle/c/0")
        assert await get.silent()
        assert (await at.ask("DELETE", "/ai/trickle/c/0"))[0] == 200
        status, headers = await get.head()
        assert (status, headers["content-length"]) == (200, "0")
        status, headers = await post.head()
        assert status == 200
        assert "lp-trickle-closed" not in headers


@pytest.mark.asyncio
async def test_a_skipped_number_is_470_to_the_reader_that_waited_for_it() -> None:
    async with channel() as at:
        get = await at.wire()
        get.request("GET", "/ai/trickle/c/0")
        assert await get.silent()
        await at.publish(1, b"one")
        assert (await get.head())[1]["lp-trickle-latest"] == "2"


@pytest.mark.asyncio
async def test_deleting_the_channel_terminates_requests_in_flight() -> None:
    async with channel() as at:
        post = await at.wire()
        post.post("/ai/trickle/c/0")
        get = await at.wire()
        get.request("GET", "/ai/trickle/c/0")
        assert await get.silent()
        assert (await at.ask("DELETE", "/ai/trickle/c"))[0] == 200
        for wire in (post, get):
            status, headers = await wire.head()
            assert (status, headers["lp-trickle-closed"]) == (200, "terminated")
        assert (await at.ask("GET", "/ai/trickle/c/0"))[0] == 404


@pytest.mark.asyncio
async def test_reset_ends_the_earlier_segments() -> None:
    async with channel() as at:
        former = await at.wire()
        former.post("/ai/trickle/c/0")
        former.chunk(b"former")
        get = await at.wire()
        get.request("GET", "/ai/trickle/c/0")
        await get.head()
        assert await get.read_chunk() == b"former"
        post = await at.wire()
        post.post("/ai/trickle/c/1", "Lp-Trickle-Reset: 1\n")
        assert await get.read_chunk() == b""
        assert (await former.head())[0] == 200


@pytest.mark.asyncio
async def test_a_body_over_the_limit_is_413_and_ends_the_segment() -> None:
    async with channel(max_body=10) as at:
        post = await at.wire()
        post.post("/ai/trickle/c/0")
        post.chunk(b"x" * 11)
        assert (await post.head())[0] == 413
        assert (await at.ask("GET", "/ai/trickle/c/next"))[1]["lp-trickle-latest"] == "1"


@pytest.mark.asyncio
async def test_a_reader_slower_than_retention_is_cut() -> None:
    async with channel() as at:
        slow = await at.wire(limit=1024)
        slow.request("GET", "/ai/trickle/c/0")
        await at.publish(0, b"x" * 20_000_000)
        assert (await slow.head())[0] == 200
        for seq in range(1, 6):
            await at.publish(seq, b"next")
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            async with asyncio.timeout(DEADLINE):
                await slow.reader.readexactly(20_000_000)


@pytest.mark.asyncio
async def test_an_idle_channel_is_swept_and_a_segment_puts_that_off() -> None:
    loop = asyncio.get_running_loop()
    swept: dict[str, float] = {}
    server = TrickleServer(sweep_after=0.4)
    created = loop.time()
    both = asyncio.Event()
    for name in ("idle", "c"):

        def note(name: str = name) -> None:
            swept[name] = loop.time()
            if len(swept) == 2:
                both.set()

        server.create(name, on_close=note)
    async with bench(server) as at:
        await asyncio.sleep(0.05)
        published = loop.time()
        assert (await at.publish(0, b"busy"))[0] == 200
        async with asyncio.timeout(DEADLINE):
            await both.wait()
        assert server.names() == []
    assert swept["idle"] >= created + 0.4
    assert swept["c"] >= published + 0.4


@pytest.mark.asyncio
async def test_the_first_bytes_of_each_segment_are_reported() -> None:
    seen: list[int] = []
    server = TrickleServer()
    server.create("c", on_segment=seen.append)
    async with bench(server) as at:
        await at.publish(0, b"a")
        await at.publish(1, b"")
        await at.publish(2, b"c")
    assert seen == [0, 2]


@pytest.mark.asyncio
async def test_the_report_of_a_segment_may_end_the_channel() -> None:
    server = TrickleServer()
    server.create("c", on_segment=lambda _: server.terminate("c"))
    async with bench(server) as at:
        status, headers = await at.publish(0, b"unpaid")
        assert (status, headers["lp-trickle-closed"]) == (200, "terminated")


@pytest.mark.asyncio
async def test_a_reader_that_hangs_up_while_waiting_leaves_no_task() -> None:
    async with channel() as at:
        before = len(asyncio.all_tasks())
        get = await at.wire()
        get.request("GET", "/ai/trickle/c/0")
        assert await get.silent()
        assert len(asyncio.all_tasks()) > before
        await get.aclose()
        await eventually(lambda: len(asyncio.all_tasks()) <= before)


@pytest.mark.asyncio
async def test_many_readers_share_one_segment() -> None:
    async with channel() as at:
        wires = [await at.wire() for _ in range(5)]
        for wire in wires:
            wire.request("GET", "/ai/trickle/c/0")
        await at.publish(0, b"shared")
        for wire in wires:
            assert (await wire.head())[0] == 200
            assert await wire.read_chunk() == b"shared"


@pytest.mark.asyncio
async def test_a_name_is_given_once() -> None:
    server = TrickleServer()
    server.create("c")
    with pytest.raises(ValueError, match="already"):
        server.create("c")
    await server.close("c")
    await server.close("c")
    server.create("c")
    await server.shutdown()
