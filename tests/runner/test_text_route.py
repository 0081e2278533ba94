"""An app's texts from a route of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from gateway.runner.text_route import Lines, TextRoute, message_of
from harness.serving import serving
from harness.waiting import within

LIMIT = 100


@given(st.lists(st.binary(max_size=60)))
def test_lines_are_the_same_however_they_are_cut(pieces: list[bytes]) -> None:
    lines = Lines(LIMIT)
    found = [line for piece in pieces for line in lines.feed(piece)]
    whole = b"".join(pieces).split(b"\n")[:-1]
    assert found == [line for line in whole if len(line) <= LIMIT]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'data: {"type": "text"}\r', {"type": "text"}),
        (b'{"type": "text"}', {"type": "text"}),
        (b": still there", None),
        (b"event: text", None),
        (b"data: [1]", None),
        (b"data: {", None),
        (b"", None),
    ],
)
def test_a_line_is_data_of_an_event_or_json(line: bytes, message: dict[str, Any] | None) -> None:
    assert message_of(line) == message


@pytest.mark.asyncio
async def test_a_route_is_asked_again_and_each_text_is_told_once() -> None:
    too_long = b'data: {"n": 3, "long": "' + b"x" * LIMIT + b'"}\n\n'
    answers = [
        (500, b'{"n": 0}'),
        (200, b'{"n": 1}'),
        (200, b'{"n": 1}'),
        (200, b'data: {"n": 2}\n\n: alive\n\n' + too_long + b'data: {"n": 4}\n\n'),
        (302, b""),
        (200, b'{"n": 5}\n{"n": 6}\n'),
    ]

    async def text(_: web.Request) -> web.Response:
        status, body = answers.pop(0) if answers else (404, b"")
        return web.Response(status=status, body=body, headers={"Location": "/other"})

    async with serving(web.get("/text", text)) as url, aiohttp.ClientSession() as http:
        route = TextRoute(http, f"{url}/text", structlog.get_logger("test"), max_text=LIMIT, pause=0.001)
        texts = route.texts()
        assert [(await within(anext(texts)))["n"] for _ in range(5)] == [1, 2, 4, 5, 6]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(texts)
