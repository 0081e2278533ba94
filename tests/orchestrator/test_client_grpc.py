"""GetOrchestrator against real TLS servers that answer well, badly, late or not at all."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from h2.config import H2Configuration
from h2.connection import H2Connection

from gateway.aio.inside import LOOPBACK, Reach
from gateway.orchestrator.capabilities import capabilities
from gateway.orchestrator.client import OrchestratorClient
from gateway.orchestrator.errors import BadAnswer, NoCapacity, Refused, Unreachable
from gateway.orchestrator.grpc import CLOSED_STREAMS, MAX_MESSAGE
from harness.insides import remembered_streams
from harness.waiting import SLACK

WITH_UNKNOWN_FIELD = bytes.fromhex(
    next(
        vector["hex"]
        for vector in json.loads((Path(__file__).parents[1] / "data" / "protobuf.json").read_text())
        if "no schema knows" in vector.get("note", "")
    )
)
Start = Callable[[], Any]


def answering(answer: bytes | Exception) -> Callable[[Any], Any]:
    async def give(_: Any) -> bytes:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return give


async def never(_: Any) -> bytes:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets the event")


def open_sockets() -> int:
    return len(psutil.Process().net_connections("inet"))


@pytest.mark.asyncio
async def test_an_orchestrator_without_tls_is_asked_in_plain_text(
    client: OrchestratorClient, grpc_orchestrator: Callable[..., Any]
) -> None:
    orchestrator = await grpc_orchestrator(plain=True)
    assert orchestrator.addr.startswith("http://")
    info = await client.get_info(orchestrator.addr)
    assert info.url == orchestrator.addr


@pytest.mark.asyncio
async def test_where_certificates_are_verified_nobody_is_asked_in_plain_text(
    grpc_orchestrator: Callable[..., Any],
) -> None:
    orchestrator = await grpc_orchestrator(plain=True)
    strict = OrchestratorClient(
        address="0x" + "1" * 40, signature=b"s", capabilities=capabilities("m"), verify_tls=True
    )
    with pytest.raises(Unreachable, match="-orchVerifyTLS"):
        await strict.get_info(orchestrator.addr)
    assert not orchestrator.requests
    await strict.close()


@pytest.mark.asyncio
async def test_the_bytes_come_back_as_they_were_sent(
    client: OrchestratorClient, grpc_orchestrator: Start
) -> None:
    orchestrator = await grpc_orchestrator()
    orchestrator.answer = answering(WITH_UNKNOWN_FIELD)
    info = await client.get_info(orchestrator.addr)
    assert info.raw == WITH_UNKNOWN_FIELD
    assert info.price == 10**15


@pytest.mark.asyncio
async def test_the_request_says_who_asks_and_for_what(
    client: OrchestratorClient, grpc_orchestrator: Start
) -> None:
    orchestrator = await grpc_orchestrator()
    await client.get_info(orchestrator.addr)
    await client.get_info(f"https://{orchestrator.addr}", ignore_capacity=True)
    first, second = orchestrator.requests
    assert first.address.hex() == "2c7536e3605d9c16a7a3d7b1898e529396a65c23"
    assert first.sig == bytes(range(65))
    assert first.capabilities.SerializeToString(deterministic=True) == capabilities("comfystream")
    assert (first.ignoreCapacityCheck, second.ignoreCapacityCheck) == (False, True)


@pytest.mark.asyncio
async def test_without_a_signer_nobody_signs(grpc_orchestrator: Start) -> None:
    orchestrator = await grpc_orchestrator()
    client = OrchestratorClient(address="", signature=b"", capabilities=capabilities("m"))
    await client.get_info(orchestrator.addr)
    await client.close()
    (request,) = orchestrator.requests
    assert (request.address, request.sig) == (b"", b"")


@pytest.mark.asyncio
async def test_one_connection_serves_every_question_and_close_gives_it_back(
    client: OrchestratorClient, grpc_orchestrator: Start
) -> None:
    orchestrator = await grpc_orchestrator()
    before = open_sockets()
    infos = [await client.get_info(orchestrator.addr) for _ in range(3)]
    infos += await asyncio.gather(*(client.get_info(orchestrator.addr) for _ in range(5)))
    assert len({info.session_id for info in infos}) == 8
    assert open_sockets() <= before + 2
    await client.close()
    await asyncio.sleep(0)  # an aborted transport closes its socket on the next turn
    assert open_sockets() <= before + 1, "only the server's side may be left"


@pytest.mark.asyncio
async def test_a_connection_that_lasts_for_weeks_does_not_grow(
    client: OrchestratorClient, grpc_orchestrator: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[H2Connection] = []

    def connection(config: H2Configuration) -> H2Connection:
        connections.append(H2Connection(config))
        return connections[-1]

    monkeypatch.setattr("grpclib.protocol.H2Connection", connection)
    orchestrator = await grpc_orchestrator()
    for _ in range(CLOSED_STREAMS + 20):
        await client.get_info(orchestrator.addr)
    (h2,) = (one for one in connections if one.config.client_side)
    assert CLOSED_STREAMS - 20 < remembered_streams(h2) <= CLOSED_STREAMS
    assert len(h2.streams) < 20


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (b"\xff\xff\xff", BadAnswer, "not an OrchestratorInfo"),
        (b"", BadAnswer, "service URI"),
        (b"x" * (MAX_MESSAGE + 1), BadAnswer, "over the limit"),
        (GRPCError(Status.UNKNOWN, "OrchestratorCapped"), NoCapacity, "no free capacity"),
        (GRPCError(Status.UNKNOWN, "sig check failed"), Refused, "UNKNOWN"),
        (GRPCError(Status.UNAVAILABLE, "shutting down"), Unreachable, "unavailable"),
        (GRPCError(Status.UNIMPLEMENTED), BadAnswer, "not an orchestrator"),
    ],
)
async def test_each_bad_answer_has_its_name(
    client: OrchestratorClient,
    grpc_orchestrator: Start,
    answer: bytes | Exception,
    error: type[Exception],
    says: str,
) -> None:
    orchestrator = await grpc_orchestrator()
    orchestrator.answer = answering(answer)
    with pytest.raises(error, match=says):
        await client.get_info(orchestrator.addr)
    orchestrator.answer = answering(WITH_UNKNOWN_FIELD)
    assert (await client.get_info(orchestrator.addr)).raw == WITH_UNKNOWN_FIELD, "the next question is well"


@pytest.mark.asyncio
async def test_an_answer_that_does_not_come_is_not_waited_for(
    client: OrchestratorClient, grpc_orchestrator: Start
) -> None:
    orchestrator = await grpc_orchestrator()
    orchestrator.answer = never
    before = time.monotonic()
    with pytest.raises(Unreachable, match=r"no answer within 0\.2 s"):
        await client.get_info(orchestrator.addr, timeout=0.2)
    assert time.monotonic() - before < SLACK


@pytest.mark.asyncio
async def test_a_port_where_nobody_listens_is_unreachable(client: OrchestratorClient) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(Unreachable, match="Connect call failed"):
        await client.get_info(f"127.0.0.1:{port}")


@pytest.mark.asyncio
async def test_what_is_no_address_is_unreachable_with_a_sentence(client: OrchestratorClient) -> None:
    with pytest.raises(Unreachable, match="orchestrators use https or http"):
        await client.get_info("ftp://127.0.0.1:1")


@pytest.mark.asyncio
async def test_a_web_server_is_no_orchestrator(client: OrchestratorClient, http_orchestrator: Any) -> None:
    with pytest.raises((BadAnswer, Unreachable)):
        await client.get_info(http_orchestrator.url)


async def talking(context: ssl.SSLContext | None, words: bytes) -> AsyncIterator[str]:
    """A TLS server that says `words` to whoever connects, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(words)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()


@pytest.mark.asyncio
@pytest.mark.parametrize("words", [b"", b"\0" * 64, b"HTTP/1.1 200 OK\r\n\r\nhello", b"\xff" * 400])
@pytest.mark.parametrize("encrypted", [True, False])
async def test_a_stranger_that_talks_something_else_is_found_out(
    client: OrchestratorClient, tls: Callable[[], ssl.SSLContext], words: bytes, encrypted: bool
) -> None:
    async for addr in talking(tls() if encrypted else None, words):
        with pytest.raises((BadAnswer, Unreachable)):
            await client.get_info(addr)


@pytest.mark.asyncio
async def test_a_certificate_is_checked_where_the_operator_asks_for_it(
    grpc_orchestrator: Start,
) -> None:
    orchestrator = await grpc_orchestrator()
    strict = OrchestratorClient(address="", signature=b"", capabilities=b"", verify_tls=True)
    with pytest.raises(Unreachable, match="certificate does not verify"):
        await strict.get_info(orchestrator.addr)
    await strict.close()


@pytest.mark.asyncio
async def test_a_lost_connection_is_told_at_once_and_made_anew(
    client: OrchestratorClient, grpc_orchestrator: Start, tls: Callable[[], ssl.SSLContext]
) -> None:
    orchestrator = await grpc_orchestrator()
    lost: asyncio.Queue[str] = asyncio.Queue()
    client.on_connection_lost(lost.put_nowait)
    await client.get_info(orchestrator.addr)
    await orchestrator.stop()
    async with asyncio.timeout(SLACK):
        assert await lost.get() == orchestrator.addr
    with pytest.raises(Unreachable):
        await client.get_info(orchestrator.addr)


@pytest.mark.asyncio
async def test_a_connection_lost_in_mid_question_leaves_the_callers_cancellation_alone(
    client: OrchestratorClient, grpc_orchestrator: Start
) -> None:
    orchestrator = await grpc_orchestrator()
    asked = asyncio.Event()

    async def hang(request: Any) -> bytes:
        asked.set()
        return await never(request)

    orchestrator.answer = hang
    async with asyncio.TaskGroup() as group:
        question = group.create_task(outcome(client, orchestrator.addr))
        await asked.wait()
        await orchestrator.stop()
    error, cancellations = question.result()
    assert isinstance(error, Unreachable)
    assert cancellations == 0


async def outcome(client: OrchestratorClient, addr: str) -> tuple[BaseException, int]:
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(Unreachable) as caught:
        await client.get_info(addr, timeout=5)
    return caught.value, task.cancelling()


@pytest.mark.asyncio
async def test_a_cancelled_question_ends_at_once_and_leaves_no_task(
    client: OrchestratorClient, grpc_orchestrator: Start
) -> None:
    orchestrator = await grpc_orchestrator()
    orchestrator.answer = never
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.get_info(orchestrator.addr, timeout=30)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("grpc ")]


@pytest.mark.asyncio
async def test_who_was_not_named_by_the_operator_is_not_asked_inside(
    client: OrchestratorClient, grpc_orchestrator: Start
) -> None:
    orchestrator = await grpc_orchestrator()
    client.operator_named(lambda addr: False)
    for host in ("127.0.0.1", "localhost", "127.1"):
        with pytest.raises(Unreachable, match="in a private network"):
            await client.get_info(f"{host}:{orchestrator.port}")
    assert not orchestrator.requests


@pytest.mark.asyncio
async def test_an_answer_says_where_its_urls_may_lead(
    client: OrchestratorClient, grpc_orchestrator: Start
) -> None:
    orchestrator = await grpc_orchestrator()
    info = await client.get_info(f"localhost:{orchestrator.port}")
    assert info.reach == Reach("localhost", LOOPBACK)
