"""Pools to test, with orchestrators that answer as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

from eth_utils.address import to_checksum_address

from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.discovery import Source
from gateway.orchestrator.errors import OrchestratorError
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.pool import OrchestratorPool
from harness.waiting import DEADLINE

InfoMaker = Callable[..., livepeer_pb2.OrchestratorInfo]


class Orchestrators:
    """Stands in for the client: each address answers with a new session at its price, or fails."""

    def __init__(self, make: InfoMaker, **prices: int) -> None:
        self._make = make
        self.room = 0
        """For how many more jobs each says that it has room; 0: it does not say."""
        self.are_strangers = False
        """Whether each is paid as somebody else."""
        self.prices = {f"{name}:1": price for name, price in prices.items()}
        self.failing: dict[str, OrchestratorError] = {}
        self.asked: list[str] = []
        self.timeouts: list[float] = []
        self.lost: Callable[[str], None] = lambda addr: None

    async def get_info(self, addr: str, *, timeout: float) -> OrchestratorInfo:
        self.asked.append(addr)
        self.timeouts.append(timeout)
        session = f"{addr} {len(self.asked)}"
        await asyncio.sleep(0)
        if addr in self.failing:
            raise self.failing[addr]
        message = self._make(f"https://{addr}", self.prices[addr], session=session)
        message.capabilities.constraints.PerCapability[35].models["comfystream"].capacity = self.room
        if self.are_strangers:
            message.ticket_params.recipient = recipient(addr)
        return OrchestratorInfo.parse(message.SerializeToString())

    def on_connection_lost(self, callback: Callable[[str], None]) -> None:
        self.lost = callback

    def on_flood(self, callback: Callable[[str], None]) -> None:
        self.flooded = callback

    def operator_named(self, named: Callable[[str], bool]) -> None:
        self.named = named


def strangers(make: InfoMaker, **prices: int) -> Orchestrators:
    """Orchestrators that are paid as one each."""
    made = Orchestrators(make, **prices)
    made.are_strangers = True
    return made


def recipient(addr: str) -> bytes:
    """Whom an orchestrator is paid as."""
    return addr.encode().ljust(20, b"\1")


def paid_as(addr: str) -> str:
    return to_checksum_address(recipient(addr))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def running(pool: OrchestratorPool) -> AsyncIterator[OrchestratorPool]:
    """Run a pool beside the test, and see that nothing of it is left."""
    task = asyncio.get_running_loop().create_task(pool.run(), name="pool under test")
    try:
        yield pool
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        left = {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}
        assert not left


def pool_of(
    client: Any, *sources: Source | str, ceiling: int = 10_000, clock: Callable[[], float] = time.monotonic
) -> OrchestratorPool:
    return OrchestratorPool(
        client,
        sources or tuple(client.prices),
        model="comfystream",
        ceiling=Fraction(ceiling),
        clock=clock,
    )


async def until(condition: Callable[[], bool], pool: OrchestratorPool) -> None:
    """Wait for something that a change of the pool brings about."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await pool.wait_changed()


def verdicts(pool: OrchestratorPool) -> dict[str, str]:
    """As operators see them: `chosen` is the one that the next stream would start on."""
    return {one["addr"]: one["verdict"] for one in pool.state()["orchestrators"]}


async def all_asked(pool: OrchestratorPool) -> None:
    await until(lambda: all(c.detail != "it has not answered yet" for c in pool.candidates()), pool)
