"""Channels that are deleted once their server answers."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web

from gateway.trickle.left_channels import LeftChannels
from harness.serving import serving
from harness.waiting import eventually


@pytest.mark.asyncio
async def test_a_closed_client_does_not_keep_other_channels_from_being_deleted() -> None:
    deleted: list[str] = []

    async def delete(request: web.Request) -> web.Response:
        deleted.append(request.path)
        return web.Response()

    left = LeftChannels(retry_every=0.01)
    async with serving(web.delete("/{name}", delete)) as url, aiohttp.ClientSession() as http:
        closed = aiohttp.ClientSession()
        await closed.close()
        left.add(closed, f"{url}/one")
        left.add(http, f"{url}/two")
        await eventually(lambda: not len(left), what="the end of both")
        assert deleted == ["/two"]
        left.add(closed, f"{url}/three")
        await eventually(lambda: not len(left), what="the end of a closed client's alone")
        left.add(http, f"{url}/four")
        await eventually(lambda: not len(left), what="the end of a later one")
        assert deleted == ["/two", "/four"]
        await left.close()
