"""The budget of HTTP/2 frames, and orchestrators that send more."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator

import pytest

from gateway.aio import tasks
from gateway.orchestrator.client import OrchestratorClient
from gateway.orchestrator.errors import BadAnswer, OrchestratorError
from gateway.orchestrator.http2 import BYTES, FRAMES, FrameBudget
from harness.waiting import SLACK, eventually

SENT = 10_000_000


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


FLOODS = {
    "SETTINGS": frame(4, 0, 0),
    "SETTINGS with values": frame(4, 0, 0, struct.pack(">HI", 3, 100) * 6),
    "SETTINGS acknowledged": frame(4, 1, 0),
    "PING": frame(6, 0, 0, bytes(8)),
    "PING acknowledged": frame(6, 1, 0, bytes(8)),
    "WINDOW_UPDATE": frame(8, 0, 0, struct.pack(">I", 1)),
    "RST_STREAM": frame(3, 0, 1, struct.pack(">I", 8)),
    "PRIORITY": frame(2, 0, 1, struct.pack(">IB", 0, 1)),
    "DATA": frame(0, 0, 1),
    "HEADERS": frame(1, 4, 1, b"\x88"),
    "CONTINUATION": frame(9, 0, 1),
    "PUSH_PROMISE": frame(5, 4, 1, struct.pack(">I", 2) + b"\x88"),
    "of no known kind": frame(0xBB, 0, 0),
}


@pytest.mark.parametrize("pieces", [1, 7, 9, 100, 65_536])
def test_frames_are_counted_however_they_are_cut(pieces: int) -> None:
    now = 0.0
    allowed = FrameBudget(clock=lambda: now)
    data = b"".join(frame(0, 0, 1, bytes(n % 40)) for n in range(FRAMES))
    assert all(allowed.allows(data[at : at + pieces]) for at in range(0, len(data), pieces))
    assert not allowed.allows(frame(6, 0, 0, bytes(8)))
    now = 1.0
    assert allowed.allows(frame(6, 0, 0, bytes(8)))


def test_bytes_are_counted_too() -> None:
    budget = FrameBudget(clock=lambda: 0.0)
    assert budget.allows(frame(0, 0, 1, bytes(BYTES - 9)))
    assert not budget.allows(b"\0")


def test_a_flood_is_found_out_without_a_look_at_all_of_it() -> None:
    flood = frame(0, 0, 1) * (BYTES // 9)
    before = time.process_time()
    assert not FrameBudget().allows(flood)
    assert time.process_time() - before < 0.01 * SLACK


async def flooding(unit: bytes, quiet: asyncio.Event) -> AsyncIterator[str]:
    """A server that sends `unit` without end once `quiet` is set."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10_000)
        writer.write(frame(4, 0, 0))
        await quiet.wait()
        try:
            for _ in range(0, SENT, 65_536):
                writer.write(unit * (65_536 // len(unit)))
                await writer.drain()
        except OSError:
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("unit", FLOODS.values(), ids=FLOODS.keys())
async def test_a_flood_of_frames_ends_the_connection_and_leaves_the_loop_alone(
    client: OrchestratorClient, unit: bytes
) -> None:
    flooded: list[str] = []
    client.on_flood(flooded.append)
    longest, begin = 0.0, asyncio.Event()
    begin.set()
    async for addr in flooding(unit, begin):
        call = tasks.spawn(outcome(client, addr), name="call")
        while not call.done():
            before = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - before)
        assert isinstance(call.result(), OrchestratorError)
        assert longest < 0.05 * SLACK
        if call.result().detail.startswith("it sent more"):
            assert isinstance(call.result(), BadAnswer)
            assert flooded == [addr]


@pytest.mark.asyncio
async def test_a_flood_while_nothing_is_asked_is_told_as_well(client: OrchestratorClient) -> None:
    flooded: list[str] = []
    client.on_flood(flooded.append)
    begin = asyncio.Event()
    async for addr in flooding(FLOODS["PING"], begin):
        await outcome(client, addr, timeout=0.2)
        assert not flooded
    async for addr in flooding(FLOODS["PING"], begin):
        call = tasks.spawn(outcome(client, addr), name="call")
        await asyncio.sleep(0)
        begin.set()
        await eventually(lambda: bool(flooded), what="the flood")
        assert flooded == [addr]
        assert (await call).detail == "it sent more HTTP/2 frames or bytes than are taken in a second"


async def outcome(client: OrchestratorClient, addr: str, timeout: float = 5.0) -> OrchestratorError:
    with pytest.raises(OrchestratorError) as caught:
        await client.get_info(addr, timeout=timeout)
    return caught.value
