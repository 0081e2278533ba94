"""The parts that read the chain, put together for the daemon. web3 is loaded in the background."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from gateway.chain.discovery import ChainSource
from gateway.chain.facts import LogEntry, Rounds, SenderFunds
from gateway.chain.follower import RedemptionFollower
from gateway.chain.luck import luck_of
from gateway.chain.luck_chart import luck_chart
from gateway.chain.networks import ChainNetwork
from gateway.chain.price_feed import PriceFeed
from gateway.chain.rpc import Endpoints
from gateway.chain.settings import ChainSettings
from gateway.chain.watch import ChainWatch
from gateway.eth_rate import EthRate
from gateway.payments.redemptions import FollowedSender, RedemptionBook

if TYPE_CHECKING:
    from gateway.chain.reader import ChainReader

DAY_NS = 24 * 3600 * 10**9
DAYS_SHOWN = 14
"""UTC days in the luck chart, today included."""


class DeferredReader:
    """A ChainReader that imports web3 at its first call, in a thread."""

    def __init__(self, endpoints: Endpoints, network: ChainNetwork) -> None:
        self._endpoints = endpoints
        self._network = network
        self._reader: ChainReader | None = None
        self._loading = asyncio.Lock()

    async def rounds(self) -> Rounds:
        return await (await self._ready()).rounds()

    async def funds(self, sender: str) -> SenderFunds:
        return await (await self._ready()).funds(sender)

    async def active_orchestrators(self) -> list[tuple[str, str]]:
        return await (await self._ready()).active_orchestrators()

    async def head(self) -> int:
        return await (await self._ready()).head()

    async def block_hash(self, number: int) -> str | None:
        return await (await self._ready()).block_hash(number)

    async def redemptions(self, sender: str, first: int, last: int) -> list[LogEntry]:
        return await (await self._ready()).redemptions(sender, first, last)

    def switch_endpoint(self) -> None:
        self._endpoints.switch_endpoint()

    def forget_contracts(self) -> None:
        if self._reader is not None:
            self._reader.forget_contracts()

    async def _ready(self) -> ChainReader:
        async with self._loading:
            if self._reader is None:
                module = await asyncio.to_thread(importlib.import_module, "gateway.chain.reader")
                self._reader = module.ChainReader(self._endpoints, self._network)
        return self._reader


class ChainService:
    """`sender` is the signer's address or empty, `folder` is for caches; `http` is not closed here.

    `reached_inside` says whether all RPC endpoints are in a private network: then so may be orchestrators.
    `rate` is told what the network's price feed says; None reads none.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        settings: ChainSettings,
        *,
        sender: str,
        folder: Path,
        book: RedemptionBook,
        reached_inside: Callable[[], bool] = lambda: False,
        rate: EthRate | None = None,
    ) -> None:
        self._endpoints = Endpoints(http, settings.urls, chain_id=settings.network.chain_id)
        reader = DeferredReader(self._endpoints, settings.network)
        cache = folder / f"orchestrators-{settings.network.controller.lower()}.json"
        self.source = ChainSource(reader, cache, reached_inside=reached_inside)
        self._feed = None
        if rate is not None and settings.network.price_feed is not None:
            self._feed = PriceFeed(self._endpoints, settings.network.price_feed, rate)
        self._book = book
        self._follower = None
        if sender:
            followed = FollowedSender(settings.network.controller.lower(), sender)
            self._follower = RedemptionFollower(reader, book, followed, interval=settings.watch.interval)
        self.watch = ChainWatch(
            reader,
            sender,
            min_hours=settings.watch.min_deposit_hours,
            interval=settings.watch.interval,
        )

    def follow_while(self, on_duty: Callable[[], bool]) -> None:
        """Read redemptions only while this is the node of a cluster which does that."""
        if self._follower is not None:
            self._follower.on_duty = on_duty

    def tasks(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Background tasks for the daemon's lifetime, by name."""
        tasks: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {"chain-watch": self.watch.run}
        if self._feed is not None:
            tasks["price-feed"] = self._feed.run
        if self._follower is not None:
            tasks["redemptions"] = self._follower.run
        return tasks

    async def luck_chart(self) -> bytes:
        """The luck chart as SVG. Raises LedgerError."""
        since = (time.time_ns() // DAY_NS + 1 - DAYS_SHOWN) * DAY_NS
        tickets, wins = await self._book.handed_out(since), await self._book.wins(since)
        return await asyncio.to_thread(lambda: luck_chart(luck_of(tickets, wins)))

    def json(self) -> dict[str, Any]:
        """What `/chain` shows operators."""
        return {
            **self.watch.json(),
            "discovery": self.source.json(),
            "redemptions": None if self._follower is None else self._follower.json(),
            "endpoints": self._endpoints.json(),
        }
