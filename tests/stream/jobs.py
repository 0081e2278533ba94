"""JobSource that are told by a test what to do, and a supervisor over them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
import structlog
from structlog.typing import FilteringBoundLogger

from gateway.media.frames import AccessUnit, Frame, FrameSink
from gateway.media.gop import GopBuffer
from gateway.reason import Ended, EndReason
from gateway.stream.seam import Ingest, JobStatus, Json, PublishRequest, UpdateRefused
from gateway.stream.supervisor import Supervisor
from gateway.stream.swap import SwapPolicy
from harness.waiting import DEADLINE, eventually

KEY = AccessUnit((b"\x65",), 0, 0, True)
LOST = Ended(EndReason.ORCHESTRATOR_LOST, "its channels closed")


@dataclass
class Somebody:
    url: str
    usable: bool = True
    verdict: str = "available"

    def json(self) -> Json:
        return {"url": self.url, "verdict": self.verdict}

    def choose(self) -> None:
        self.verdict = "chosen"

    def passed_over(self, detail: str) -> None:
        self.verdict = f"passed over: {detail}"


@dataclass(eq=False)
class Job:
    """A relay that comes up and then does what `ends` does; without it, it works until it is cancelled."""

    url: str
    sink: FrameSink
    on_live: Callable[[], GopBuffer]
    ends: BaseException | None = None
    starts: bool = True
    up: asyncio.Event | None = None
    """What it waits for before it comes up, and with `until` before it ends."""
    until: asyncio.Event | None = None
    refuses: bool = False
    live: bool = False
    paused: bool = False
    closed: EndReason | None = None
    frames: list[Frame] = field(default_factory=list)
    updates: list[Mapping[str, Any]] = field(default_factory=list)

    async def run(self) -> None:
        await asyncio.sleep(0)
        if self.up is not None:
            await self.up.wait()
        if self.starts:
            self.frames += self.on_live().frames()
            self.live = True
            await asyncio.sleep(0)
        if self.until is not None:
            await self.until.wait()
        if self.ends is not None:
            raise self.ends
        await asyncio.Event().wait()

    def push(self, frame: Frame) -> None:
        self.frames.append(frame)

    async def update(self, params: Mapping[str, Any]) -> Json:
        if self.refuses:
            raise UpdateRefused("worker_busy", "too many")
        self.updates.append(params)
        return {}

    async def close(self, reason: EndReason) -> None:
        await asyncio.sleep(0)
        self.closed = reason

    def status(self) -> JobStatus:
        third = Fraction(1, 3)
        payments = {"accepted": 1, "tickets": 2, "credited_wei": "0", "owed_wei": "0", "alarms": 0}
        orchestrator = {"url": self.url, "price_wei_per_second": "1/3"}
        return JobStatus(orchestrator=orchestrator, payments=payments, segments=5, credited=third, owed=third)


class FakeSource:
    """Gives out the jobs of its script, one for each time that one is opened."""

    def __init__(self, *script: dict[str, Any], urls: Sequence[str] = ("a", "b", "c")) -> None:
        self.script = list(script)
        self.urls = urls
        self.jobs: list[Job] = []
        self.ingests: list[Ingest] = []
        self.aside: dict[str, Ended] = {}

    def candidates(self, request: PublishRequest) -> list[Somebody]:
        return [Somebody(url, usable=url not in self.aside) for url in self.urls]

    def set_aside(self, candidate: Somebody, failure: Ended) -> None:
        self.aside[candidate.url] = failure

    def open(
        self,
        candidate: Somebody,
        request: PublishRequest,
        sink: FrameSink,
        on_live: Callable[[], GopBuffer],
        ingest: Ingest,
        log: FilteringBoundLogger,
    ) -> Job:
        self.ingests.append(ingest)
        self.jobs.append(Job(candidate.url, sink, on_live, **self.script[len(self.jobs)]))
        return self.jobs[-1]

    @property
    def asked(self) -> str:
        return "".join(job.url for job in self.jobs)


class Publisher:
    """The stream's part: holds a key frame, and says when the last one came."""

    has_audio = False

    def __init__(self) -> None:
        self.silence = 0.0
        self.failures: list[Ended] = []
        self.held = GopBuffer()
        self.held.push(KEY)
        self.shown: list[Frame] = []
        self.limits: list[int | None] = []

    def on_output(self, frame: Frame) -> None:
        self.shown.append(frame)

    def on_live(self, made: Sequence[Frame]) -> None:
        self.shown += made

    def on_job_failed(self, failure: Ended, *, was_live: bool) -> None:
        self.failures.append(failure)

    def input_age(self) -> float:
        return self.silence

    @property
    def ingest(self) -> Publisher:
        return self

    @property
    def size(self) -> tuple[int, int] | None:
        return None

    def request_key_frame(self) -> None:
        pass

    def limit_bitrate(self, bits_per_second: int | None) -> None:
        self.limits.append(bits_per_second)


def supervised(
    network: FakeSource,
    publisher: Publisher | None = None,
    *,
    max_swaps: int = 3,
    output_timeout: float = 30,
    standby: bool = False,
) -> Supervisor:
    request = PublishRequest(name="cam", stream_id="cam", request_id="1", model="m", standby=standby)
    return Supervisor(
        network,
        request,
        network.candidates(request),
        publisher or Publisher(),
        policy=SwapPolicy(max_swaps, output_timeout),
        log=structlog.get_logger(),
    )


async def end_of(supervisor: Supervisor) -> Ended:
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(Ended) as ended:
            await supervisor.run()
        await supervisor.close(ended.value.reason)
    return ended.value


async def works_on(supervisor: Supervisor, network: FakeSource, jobs: int) -> None:
    """Run until the script's last job is live, then end as a stream does."""
    running = asyncio.get_running_loop().create_task(supervisor.run())
    await eventually(
        lambda: running.done() or (len(network.jobs) == jobs and supervisor.live), deadline=5, every=0.001
    )
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await supervisor.close(EndReason.DELETED)
