"""The operator's routes: metrics, orchestrators, debug state."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.aio.tasks import kind
from gateway.http.all_nodes import AllNodes
from gateway.http.route import Route
from gateway.http.schemas import ORCHESTRATORS
from gateway.stream.registry import StreamRegistry

HEAVY_MODULES = ("web3", "eth_account", "pygal", "asyncpg", "opentelemetry")
THREAD_POOL = ("uvloop_", "asyncio_")
"""Name prefixes of the loop's thread pool, whose threads are made on first use and kept: not a leak."""


class OperatorRoutes:
    """For the operator, not for publishers and viewers."""

    def __init__(
        self, registry: StreamRegistry, nodes: AllNodes, orchestrators: Callable[[], dict[str, Any]]
    ) -> None:
        self._registry = registry
        self._nodes = nodes
        self._orchestrators = orchestrators

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/metrics",
                self.metrics,
                "metrics for Prometheus",
                {200: "the metrics"},
                gives="text/plain",
                query={"nodes": "`all`: those of all nodes of a cluster, which the label `node` tells apart"},
            ),
            Route(
                "GET",
                "/nodes/streams",
                self.streams,
                "the live streams of all nodes of a cluster, in brief",
                {200: "the streams"},
            ),
            Route(
                "GET",
                "/orchestrators",
                self.orchestrators,
                "every orchestrator, with price and verdict; in a cluster at each node, as `nodes`",
                {200: "the orchestrators"},
                schema=ORCHESTRATORS,
            ),
            Route(
                "GET",
                "/debug/state",
                self.state,
                "counts of everything that could leak",
                {200: "the counts"},
            ),
        ]

    async def metrics(self, request: web.Request) -> web.Response:
        body = await self._nodes.metrics(everywhere=request.query.get("nodes") == "all")
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def streams(self, _: web.Request) -> web.Response:
        return web.json_response({"streams": await self._nodes.streams()})

    async def orchestrators(self, _: web.Request) -> web.Response:
        return web.json_response(await self._nodes.orchestrators(self._orchestrators()))

    async def state(self, _: web.Request) -> web.Response:
        return web.json_response(debug_state(self._registry))


def debug_state(registry: StreamRegistry) -> dict[str, Any]:
    """Counts of everything that could leak: tests compare it before and after."""
    tasks = Counter(kind(task) for task in asyncio.all_tasks())
    streams = registry.running()
    return {
        "tasks": dict(sorted(tasks.items())),
        "tasks_total": tasks.total(),
        "fds": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "threads": sum(not thread.name.startswith(THREAD_POOL) for thread in threading.enumerate()),
        "peers": len(streams) + len(registry.audience),
        "streams": len(streams),
        "viewers": len(registry.audience),
        "trickle": sum(stream.job_status().channels for stream in streams),
        "sessions": sum(stream.job_status().sessions for stream in streams),
        "held_bytes": sum(stream.held_bytes() for stream in streams) + registry.audience.held_bytes,
        "modules": [name for name in HEAVY_MODULES if name in sys.modules],
    }
