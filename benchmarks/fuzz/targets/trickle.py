"""Heads of answers on trickle channels, and what follows them on the connection."""

from __future__ import annotations

import asyncio

from aiohttp.client_proto import ResponseHandler
from typing_extensions import override

from benchmarks.fuzz.target import Target
from gateway.aio.http_client import Connector
from gateway.trickle import wire
from harness.insides import client_protocol, has_unread


class Wire(asyncio.Transport):
    """A connection that is written to and never reads."""

    closed = False

    @override
    def is_closing(self) -> bool:
        return self.closed

    @override
    def close(self) -> None:
        self.closed = True

    abort = close

    @override
    def pause_reading(self) -> None: ...

    @override
    def resume_reading(self) -> None: ...


async def read(data: bytes) -> None:
    connector = Connector(None)
    protocol: ResponseHandler = client_protocol(connector)
    protocol.connection_made(Wire())
    protocol.set_response_params(read_until_eof=True, auto_decompress=False)
    protocol.data_received(data)
    while has_unread(protocol):
        message, _ = await protocol.read()
        for name in (wire.SEQ, wire.LATEST):
            wire.header_number(message.headers, name)
    protocol.connection_lost(None)
    await connector.close()


def check(data: bytes) -> None:
    asyncio.run(read(data))


TRICKLE = Target(
    "trickle",
    check,
    limit=64 * 1024,
    seeds=[
        b"HTTP/1.1 200 OK\r\nLp-Trickle-Seq: 7\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
        b"HTTP/1.1 470 No\r\nLp-Trickle-Latest: 12\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nLp-Trickle-Closed: terminated\r\n\r\n",
    ],
    words=[
        *(b"HTTP/1.1 100 Continue\r\n\r\n", b"1\r\na\r\n", b"Lp-Trickle-Seq: -1\r\n"),
        *(b"Content-Encoding: gzip\r\n", b"Transfer-Encoding: chunked\r\n", b"A: b\r\n"),
    ],
)
