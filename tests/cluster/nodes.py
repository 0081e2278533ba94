"""Nodes of a cluster in one process: real NATS, registry and HTTP, with jobs that cost nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from gateway.cluster.node import ClusterNode
from gateway.cluster.presence import Condition
from gateway.cluster.settings import ClusterSettings, Credentials
from gateway.http.all_nodes import AllNodes
from gateway.http.app import HttpParts, HttpServers
from gateway.payments.ledger import Ledger
from gateway.readiness import Readiness
from gateway.reason import EndReason
from gateway.settings import read_flags, settings_from
from gateway.stream.admission import Admission
from gateway.stream.registry import StreamRegistry
from gateway.telemetry.metrics import Metrics
from harness.waiting import eventually
from tests.e2e.sessions import PUBLISH, SDP
from tests.stream.jobs import FakeSource, only
from tests.stream.live import registry_on

PATH = "live/video-to-video/"


@dataclass
class TestNode:
    """One node, and a client of it."""

    __test__ = False

    node: ClusterNode
    registry: StreamRegistry
    admission: Admission
    url: str
    http: aiohttp.ClientSession
    all: AllNodes

    async def publish(
        self, name: str, query: str = "", headers: dict[str, str] | None = None, offer: str = PUBLISH
    ) -> aiohttp.ClientResponse:
        """POST an offer of a publisher that never connects."""
        url = f"{self.url}{PATH}{name}/whip{query}"
        async with self.http.post(url, data=offer, headers={**SDP, **(headers or {})}) as response:
            await response.read()
            return response

    async def ask(self, method: str, path: str, **options: Any) -> aiohttp.ClientResponse:
        async with self.http.request(method, self.url + path.lstrip("/"), **options) as response:
            await response.read()
            return response

    @property
    def streams(self) -> list[str]:
        return sorted(stream.request.name for stream in self.registry)

    def sees(self, nodes: int) -> bool:
        """Whether it knows that so many nodes take publishers."""
        return sum(node.open for node in self.node.nodes()) == nodes


@asynccontextmanager
async def running_node(
    servers: str, name: str, folder: Path, *flags: str, resume_timeout: float = 0.0
) -> AsyncIterator[TestNode]:
    """A node that serves, connected to NATS where that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = ("-orchAddr", "x:1", "-httpAddr", "127.0.0.1:0", "-dataDir", str(folder), *flags)
    settings = settings_from(read_flags(argv, {}))
    async with AsyncExitStack() as stack:
        chosen = ClusterSettings((servers,), "test", name, Credentials(), reuse_port=False)
        node = await ClusterNode.open(chosen, stack)
        ledger = await Ledger.open(settings.ledger)
        stack.push_async_callback(ledger.close)
        admission, metrics = Admission(), Metrics(name)
        registry = registry_on(
            only(FakeSource({}, urls="abcdef")),
            admission,
            resume_timeout=resume_timeout,
            names=node.names,
            counts=node.counts,
        )
        node.when_lost(registry.lose)
        node.when_ended_elsewhere(registry.forget_ended)
        node.relay_for(registry.audience)
        stack.push_async_callback(registry.close, EndReason.DRAINED, "the test is over")
        http = await stack.enter_async_context(aiohttp.ClientSession())
        readiness = Readiness(ledger, None, admission, node.reasons_not_ready)
        orchestrators = partial(dict, orchestrators=[])
        nodes = AllNodes(registry, metrics, orchestrators, node)
        parts = HttpParts(registry, metrics, nodes, readiness, ledger.reader, http, orchestrators, node=node)
        server = HttpServers(settings.http, settings.stream, parts)
        assert server.inside is not None
        await server.inside.start()
        stack.push_async_callback(server.inside.stop)
        url = await server.public.start()
        stack.push_async_callback(server.public.stop)

        def condition() -> Condition:
            open_ = not readiness.reasons()
            return Condition(
                len(registry), len(registry.audience), 0.0, open=open_, draining=admission.draining
            )

        await node.start(url, condition)
        yield TestNode(node, registry, admission, url, http, nodes)


@asynccontextmanager
async def running_nodes(
    servers: str, folder: Path, *names: str, **options: Any
) -> AsyncIterator[list[TestNode]]:
    """Several nodes that know each other."""
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(running_node(servers, name, folder / name, **options))
            for name in names
        ]
        for node in nodes:
            await eventually(lambda node=node: node.sees(len(names)), what="the nodes to see each other")  # type: ignore[misc]
        yield nodes
