"""A node of the chaos run: a gateway that is killed, halted, stopped and started again under one name."""

from __future__ import annotations

import os
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from benchmarks.chaos.name_history import Gap
from harness.gateway import GatewayProcess, gateway_process
from harness.waiting import within

GONE_AFTER = 3.5
"""Seconds for which a node is halted when its clients leave it."""


class ChaosNode:
    """`flags` are those of each of its runs; `gaps` gets the times in which it does nothing."""

    def __init__(self, name: str, folder: Path, flags: tuple[str, ...], gaps: list[Gap]) -> None:
        self.name = name
        self.run = 0
        """The number of its run, from 1."""
        self.logs: list[Path] = []
        self._folder = folder
        self._flags = flags
        self._gaps = gaps
        self._stack = AsyncExitStack()
        self._gateway: GatewayProcess | None = None
        self._halted: float | None = None

    @property
    def gateway(self) -> GatewayProcess:
        """Of its run now."""
        assert self._gateway is not None, f"{self.name} does not run"
        return self._gateway

    @property
    def works(self) -> bool:
        """Whether it answers, as far as a load balancer would know."""
        return self._gateway is not None and self._halted is None

    def serves(self, run: int) -> bool:
        """Whether clients of that run of it have reason to stay."""
        if self._gateway is None or self.run != run:
            return False
        return self._halted is None or time.monotonic() - self._halted < GONE_AFTER

    async def start(self) -> None:
        self._stack = AsyncExitStack()
        gateway = await self._stack.enter_async_context(
            gateway_process(self._folder, *self._flags, devnet=False)
        )
        self.logs.append(gateway.log)
        self.run += 1
        self._gateway = gateway

    async def ready(self, http: aiohttp.ClientSession, nodes: int) -> bool:
        """Whether it takes publishers, and knows that so many nodes do."""
        if not self.works:
            return False
        try:
            known = (await self.gateway.get("nodes"))["nodes"]
            async with http.get(self.gateway.url + "readyz") as answer:
                return answer.status == 200 and sum(one["takes_publishers"] for one in known) == nodes
        except (aiohttp.ClientError, TimeoutError, AssertionError):
            return False

    async def end(self, *signals: signal.Signals) -> None:
        """Its run is over: killed, or told to stop and to stop at once."""
        gateway, self._gateway = self.gateway, None
        self._gaps.append(Gap(self.name, time.time_ns(), over=True))
        for one in signals:
            os.kill(gateway.pid, one)
        await within(gateway.process.wait(), what=f"the end of {self.name}")
        await self._stack.aclose()

    def halt(self) -> None:
        self._halted = time.monotonic()
        self._gaps.append(Gap(self.name, time.time_ns(), over=False))
        os.kill(self.gateway.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.gateway.pid, signal.SIGCONT)
        self._gaps[-1].ended = time.time_ns()
        self._halted = None

    async def close(self) -> None:
        if self._gateway is not None:
            if self._halted is not None:
                self.go_on()
            await self._stack.aclose()
