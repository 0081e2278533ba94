"""RPC endpoints that misbehave: real HTTP servers on loopback whose answers a test writes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from harness.serving import serving

Answer = Callable[[dict[str, Any]], Awaitable[web.StreamResponse]]


def result(value: Any, *, on_chain: int = 1) -> Answer:
    """Answers every call with `value`, and truly where it is asked for its chain."""

    async def answer(call: dict[str, Any]) -> web.Response:
        said = hex(on_chain) if call["method"] == "eth_chainId" else value
        return web.json_response({"jsonrpc": "2.0", "id": call["id"], "result": said})

    return answer


def chain_id(number: int) -> Answer:
    """Answers every call with the number of a chain."""
    return result_always(hex(number))


def result_always(value: Any) -> Answer:
    async def answer(call: dict[str, Any]) -> web.Response:
        return web.json_response({"jsonrpc": "2.0", "id": call["id"], "result": value})

    return answer


def error(code: int, message: str, *, status: int = 200) -> Answer:
    """On the right chain, and refuses everything else."""

    async def answer(call: dict[str, Any]) -> web.Response:
        if call["method"] == "eth_chainId":
            return web.json_response({"jsonrpc": "2.0", "id": call["id"], "result": "0x1"})
        said = {"code": code, "message": message}
        return web.json_response({"jsonrpc": "2.0", "id": call["id"], "error": said}, status=status)

    return answer


def after(times: int, first: Answer, then: Answer) -> Answer:
    """Answers so many times as `first` does, and like `then` from there on."""
    left = itertools.count(times, -1)

    async def answer(call: dict[str, Any]) -> web.StreamResponse:
        return await (first if next(left) > 0 else then)(call)

    return answer


def body(content: bytes, status: int = 200) -> Answer:
    async def answer(_: dict[str, Any]) -> web.Response:
        return web.Response(body=content, status=status, content_type="application/json")

    return answer


async def silence(_: dict[str, Any]) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


class Fake:
    """A server whose `answer` may be changed; `asked` counts what came."""

    url: str

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        call = await request.json()
        if isinstance(call, list):
            return web.Response(status=400, text="one call at a time")
        return await self.answer(call)


@asynccontextmanager
async def endpoint(answer: Answer) -> AsyncIterator[Fake]:
    fake = Fake(answer)
    async with serving(web.post("/", fake.handle)) as fake.url:
        yield fake
