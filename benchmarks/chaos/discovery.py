"""A discovery service that can lie: it lists orchestrators and live runners of a devnet, or garbage."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
from aiohttp import web

from harness.serving import serving

INVENTORY_TIMEOUT = 1.0
LIES = ('[{"address": "127.0.0.1:9"}]', "nonsense", '[{"address": 7}, {}]', "[]", '{"address": "x"}')
"""Whole answers."""


def lies_about(runner: dict[str, Any]) -> list[dict[str, Any]]:
    """Fields of a live runner's entry that are not true: of its price, unit, room, place, app or mode.

    By each price it is cheap: 40 wei a pixel are 0.000000001 ETH a second.
    """
    price = {**runner["price_info"]}
    return [
        {"price_info": {**price, "price": price["price"] // 2}},
        {"price_info": {**price, "price": 40, "unit": "720p-pixel-seconds"}},
        {"price_info": {**price, "unit": "fixed"}},
        {"capacity_available": 0},
        {"url": "http://127.0.0.1:9/apps/nobody/session"},
        {"url": f"{runner['url']}/nobody"},
        {"app": "livepeer-example/other"},
        {"mode": "single-shot"},
    ]


class Discovery:
    """Lists of orchestrators and of live runners. What it tells is false during a fault."""

    def __init__(self, addrs: Iterable[str], live: Iterable[str], http: aiohttp.ClientSession) -> None:
        self.lies: Iterator[str] | None = None
        """What is told in the place of both lists, one after the other."""
        self.liar: random.Random | None = None
        """Chooses what is told falsely of each live runner, at each answer anew."""
        self.url = ""
        self._truth = json.dumps([{"address": addr} for addr in addrs])
        self._live = list(live)
        self._http = http
        self._stack = AsyncExitStack()

    @property
    def runners_url(self) -> str:
        return f"{self.url}/runners"

    async def __aenter__(self) -> Discovery:
        routes = (web.get("/", self._answer), web.get("/runners", self._answer_runners))
        self.url = await self._stack.enter_async_context(serving(*routes))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _answer(self, _: web.Request) -> web.Response:
        told = self._truth if self.lies is None else next(self.lies)
        return web.Response(text=told, content_type="application/json")

    async def _answer_runners(self, request: web.Request) -> web.Response:
        if self.lies is not None:
            return await self._answer(request)
        inventories = await asyncio.gather(*(self._inventory(url) for url in self._live))
        entries = [entry for inventory in inventories for entry in inventory]
        liar = self.liar
        if liar is not None:
            for entry in entries:
                entry["runners"] = [one | liar.choice(lies_about(one)) for one in entry.get("runners", ())]
        return web.json_response(entries)

    async def _inventory(self, url: str) -> list[Any]:
        """What an orchestrator says of its live runners; nothing where it does not answer."""
        try:
            async with (
                asyncio.timeout(INVENTORY_TIMEOUT),
                self._http.get(f"{url}/discovery", ssl=False) as got,
            ):
                return list(await got.json())
        except (aiohttp.ClientError, TimeoutError):
            return []
