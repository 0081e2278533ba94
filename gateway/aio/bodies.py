"""Read an HTTP body up to a limit."""

from __future__ import annotations

import aiohttp
from aiohttp import web


class BodyTooLarge(Exception):
    """The body is larger than the limit."""


async def read_bounded(message: aiohttp.ClientResponse | web.Request, limit: int) -> bytes:
    """The whole body, decompressed. Raises BodyTooLarge above `limit` bytes, and what aiohttp raises.

    `content.read(n)` is not enough: it returns what has arrived. aiohttp (since 3.14) decompresses only what
    is read and its buffers, 1.5 MiB, whatever the body would become.
    """
    body = bytearray()
    async for chunk in message.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise BodyTooLarge(f"the body is over the limit of {limit} bytes")
    return bytes(body)
