"""Health checks of runners that are configured and do not register themselves."""

from __future__ import annotations

import asyncio

import aiohttp

from gateway.devnet.live_runners.registry import RunnerRegistry
from gateway.devnet.live_runners.runner import HealthCheck

INTERVAL = 5.0
TIMEOUT = aiohttp.ClientTimeout(total=3)


async def watch_health(
    registry: RunnerRegistry, http: aiohttp.ClientSession, interval: float = INTERVAL
) -> None:
    """Until cancelled: ask each configured runner for its health, all of them at once."""
    while True:
        checked = [
            (runner, runner.health) for runner in registry.runners.values() if runner.health is not None
        ]
        found = await asyncio.gather(*(_is_healthy(http, health) for _, health in checked))
        for (runner, _), healthy in zip(checked, found, strict=True):
            registry.found_healthy(runner, healthy)
        await asyncio.sleep(interval)


async def _is_healthy(http: aiohttp.ClientSession, health: HealthCheck) -> bool:
    try:
        async with http.get(health.url, timeout=TIMEOUT) as answer:
            return answer.status == health.status
    except (aiohttp.ClientError, TimeoutError):
        return False
