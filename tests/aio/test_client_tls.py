"""TLS to orchestrators: whose certificate is asked for, and how much is read at a time."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.aio.client_tls import RECORD, client_context
from gateway.devnet.orchestrator.tls import server_context
from harness.insides import replace_tls
from harness.serving import serving

CONTENT = bytes(range(256)) * 1024


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    """A server that nobody vouches for, with 256 KiB to tell."""
    context = server_context("127.0.0.1", alpn=["http/1.1"])

    async def tell(_: web.Request) -> web.Response:
        return web.Response(body=CONTENT)

    async with serving(web.get("/", tell), tls=context) as url:
        yield url + "/"


@pytest.mark.asyncio
async def test_a_certificate_is_asked_for_where_it_is_to_be_verified(url: str) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.get(url, ssl=client_context(verify=False)) as response:
            assert await response.read() == CONTENT
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await http.get(url, ssl=client_context(verify=True))


def test_a_read_is_of_one_record_however_much_is_asked_for() -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection: Any = client_context(verify=False).wrap_bio(incoming, outgoing)
    asked: list[int] = []

    class Counting:
        def read(self, size: int, *_: object) -> bytes:
            asked.append(size)
            return b""

    replace_tls(connection, Counting())
    connection.read(256 * 1024)
    connection.read(100)
    assert asked == [RECORD, 100]
