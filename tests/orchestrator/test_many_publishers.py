"""Many publishers at once, on orchestrators that nobody knows yet, in scripted time.

Supervisors, pool and trust are real; the jobs are not.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, cast

import structlog

from gateway.candidates.trust import Trust
from gateway.network.models import ModelNetworks
from gateway.network.resources import NetworkResources
from gateway.network.source import NetworkSource
from gateway.orchestrator.pool import OrchestratorPool
from gateway.reason import EndReason
from gateway.stream.seam import Candidate, JobHost, PublishRequest
from gateway.stream.sources import JobSources, Preference
from gateway.stream.supervisor import Supervisor
from gateway.stream.swap import SwapPolicy
from harness import scripted_time
from tests.orchestrator.pools import strangers
from tests.stream.jobs import DELETED, KEY, FakeJob, Publisher

FIRST_PICTURE = 2.0
"""Seconds until an honest orchestrator's first picture."""
PICTURES = 0.5
"""Seconds between two pictures."""
MOST_STREAMS = 50


class PaidJob(FakeJob):
    """Pays, and shows pictures unless its orchestrator is a thief."""

    def __init__(self, network: Network, candidate: Candidate, host: JobHost) -> None:
        super().__init__(candidate.url, host)
        self._network = network
        self._candidate = candidate
        self._trusted = network.pool.job_opened(candidate.addr, candidate.address, self)

    async def run(self) -> None:
        self._network.preloads[self._candidate.addr] += 1
        self.paid = self._candidate.paid_without_picture = True
        self._trusted.paid()
        await asyncio.sleep(FIRST_PICTURE)
        self.host.on_started()
        self.started = True
        if self._candidate.addr in self._network.thieves:
            await asyncio.Event().wait()
        while True:
            self._candidate.paid_without_picture = False
            self._trusted.picture()
            self.host.on_output(KEY)
            await asyncio.sleep(PICTURES)

    async def close(self, reason: EndReason, *, leave: bool = False) -> None:
        self._trusted.end(Fraction(60))
        self._network.pool.job_over(self._candidate.addr, self, ran=self.started)


class Network(NetworkSource):
    """Orchestrators by name and price; those in `thieves` take pay and show nothing."""

    def __init__(self, make: Callable[..., Any], thieves: str, **prices: int) -> None:
        clock = asyncio.get_running_loop().time
        self.thieves = {f"{name}:1" for name in thieves}
        self.preloads: Counter[str] = Counter()
        client = strangers(make, **prices)
        self.pool = OrchestratorPool(
            client,
            tuple(client.prices),
            model="comfystream",
            ceiling=Fraction(10_000),
            trust=Trust(clock=clock),
            clock=clock,
        )
        payments = SimpleNamespace(check_affordable=lambda *limits: None)
        none = cast(Any, None)
        resources = NetworkResources(
            orchestrators=none, pool=self.pool, uplink=none, payments=cast(Any, payments)
        )
        super().__init__(ModelNetworks(["comfystream"], lambda _: resources))

    def open(self, candidate: Candidate, request: PublishRequest, host: JobHost, log: Any) -> Any:
        return PaidJob(self, candidate, host)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(self.pool.run())
        await asyncio.sleep(1)
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def publish(self, name: str, seconds: float) -> float:
        """Have a stream shown for so long. Returns the seconds until its first picture."""
        clock = asyncio.get_running_loop().time
        sources = JobSources([self], Preference(self.name, fallback=False))
        request = PublishRequest(
            name=name, stream_id=name, request_id=name, model="comfystream", publisher=name
        )
        candidates = sources.candidates(request)
        assert any(candidate.admissible for candidate in candidates)
        stream, log = Publisher(), structlog.get_logger()
        supervisor = Supervisor(
            sources, request, candidates, stream, policy=SwapPolicy(), log=log, clock=clock
        )
        began, job = clock(), asyncio.get_running_loop().create_task(supervisor.run())
        while not supervisor.live:
            assert not job.done(), job.exception()
            await asyncio.sleep(0.1)
        waited = clock() - began
        await asyncio.sleep(seconds)
        job.cancel()
        with suppress(asyncio.CancelledError):
            await job
        await supervisor.close(DELETED)
        return waited


def test_fifty_publishers_at_once_on_an_unknown_orchestrator_are_all_served_within_a_minute(
    orchestrator_info: Callable[..., Any],
) -> None:
    async def main() -> None:
        network = Network(orchestrator_info, "", honest=1)
        async with network.running():
            waits = await asyncio.gather(*[network.publish(f"cam{n}", 10) for n in range(MOST_STREAMS)])
        assert max(waits) < 60
        assert network.preloads == {"honest:1": MOST_STREAMS}

    scripted_time.run(main())


def stolen_in_ten_minutes(make: Callable[..., Any], streams: int) -> int:
    """First payments that a cheaper thief beside an honest one gets, while publishers come and go."""

    async def main() -> int:
        network = Network(make, "t", t=1, honest=2)
        clock = asyncio.get_running_loop().time
        until = clock() + 600

        async def publisher(name: str) -> None:
            while clock() < until:
                assert await network.publish(name, 20) < 60

        async with network.running():
            await asyncio.gather(*[publisher(f"cam{n}") for n in range(streams)])
        assert network.preloads["honest:1"] > streams
        return network.preloads["t:1"]

    return int(scripted_time.run(main()))


def test_a_thief_costs_one_preload_for_each_back_off_whatever_the_number_of_streams(
    orchestrator_info: Callable[..., Any],
) -> None:
    few, many = (stolen_in_ten_minutes(orchestrator_info, streams) for streams in (5, MOST_STREAMS))
    assert 3 <= few <= many <= 5, "30 s until it is found out, then 30, 60, 120, 240 s away"
