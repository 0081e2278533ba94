"""Requests that another node answers: here those that create a stream."""

from __future__ import annotations

import json
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from gateway.cluster.requests import ForwardedAnswer, ForwardedRequest
from gateway.http.bodies import read_json_object
from gateway.http.forwarding import Forwarding
from gateway.http.other_nodes import OtherNodes
from gateway.http.route import Route
from gateway.http.server import Server, application
from gateway.http.sessions import PREFIX
from tests.stream.jobs import FakeSource, only
from tests.stream.live import registry_on


class OwnerElsewhere:
    """A node that knows of one stream at another."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def ask_owner(self, name: str, request: ForwardedRequest) -> ForwardedAnswer | None:
        if name != "cam-1":
            return None
        self.sent.append(request.body)
        return ForwardedAnswer(409, (), b"")


async def create_here(request: web.Request) -> web.Response:
    return web.json_response(await read_json_object(request), status=201)


@pytest.mark.asyncio
async def test_the_node_that_has_a_live_stream_is_asked_to_create_it_anew() -> None:
    node = OwnerElsewhere()
    others = OtherNodes(cast("Any", node), registry_on(only(FakeSource())), Forwarding())
    route = Route("POST", PREFIX, create_here, "create", {})
    server = Server(application([[route]], middlewares=[others.send_on]), ("127.0.0.1", 0), "httpAddr")
    url = await server.start() + PREFIX.lstrip("/")
    bodies: tuple[dict[str, object], ...] = (
        {"name": "cam-1"},
        {"name": "cam-2"},
        {},
        {"name": "a b"},
        {"name": 1},
        {"name": "x-out"},
    )
    try:
        async with aiohttp.ClientSession() as http:
            for body, status in zip(bodies, (409, *[201] * 5), strict=True):
                async with http.post(url, json=body) as answer:
                    assert (body, answer.status) == (body, status)
            async with http.post(url, data=b"{") as answer:
                assert answer.status == 400
    finally:
        await server.stop()
    assert node.sent == [json.dumps(bodies[0]).encode()]
