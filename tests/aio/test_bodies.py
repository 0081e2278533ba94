"""Bounded reading of answers that are cut, too large, compressed or broken off."""

from __future__ import annotations

import gzip
import json

import aiohttp
import pytest

from gateway.aio.bodies import BodyTooLarge, read_bounded
from harness.pieces import PIECE, answering_in_pieces

LIMIT = 100_000
BUFFERS = 3 * 512 * 1024
"""Bytes that aiohttp decompresses ahead of the reader."""


@pytest.mark.asyncio
async def test_a_body_that_comes_in_pieces_is_read_to_its_end() -> None:
    body = bytes(range(256)) * (LIMIT // 256)
    async with answering_in_pieces(body) as url, aiohttp.ClientSession() as http, http.get(url) as response:
        assert await read_bounded(response, len(body)) == body


@pytest.mark.asyncio
async def test_one_byte_above_the_limit_is_refused() -> None:
    async with (
        answering_in_pieces(b"x" * (LIMIT + 1)) as url,
        aiohttp.ClientSession() as http,
        http.get(url) as response,
    ):
        with pytest.raises(BodyTooLarge, match=str(LIMIT)):
            await read_bounded(response, LIMIT)


@pytest.mark.asyncio
async def test_what_grows_when_decompressed_is_decompressed_no_further_than_the_buffers() -> None:
    bomb = gzip.compress(bytes(100 * BUFFERS))
    async with (
        answering_in_pieces(bomb, headers="Content-Encoding: gzip\r\n") as url,
        aiohttp.ClientSession() as http,
        http.get(url) as response,
    ):
        with pytest.raises(BodyTooLarge):
            await read_bounded(response, LIMIT)
        assert response.content.total_bytes <= LIMIT + BUFFERS


@pytest.mark.asyncio
async def test_what_is_compressed_is_read_to_its_end() -> None:
    value = [n * n for n in range(4 * PIECE)]
    async with (
        answering_in_pieces(
            gzip.compress(json.dumps(value).encode()), headers="Content-Encoding: gzip\r\n"
        ) as url,
        aiohttp.ClientSession() as http,
        http.get(url) as response,
    ):
        assert json.loads(await read_bounded(response, LIMIT)) == value
