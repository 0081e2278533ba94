"""A source of jobs that do what a test tells them, and a supervisor over it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import pytest
import structlog
from structlog.typing import FilteringBoundLogger

from gateway.candidates.verdict import Verdict
from gateway.media.frames import AccessUnit, Frame
from gateway.media.gop import GopBuffer
from gateway.payments.status import PaymentStatus
from gateway.reason import Ended, EndReason
from gateway.stream.params import WorkerParams
from gateway.stream.seam import (
    Candidate,
    JobHost,
    JobStatus,
    Json,
    OrchestratorRef,
    PublishRequest,
    TooManyModels,
    UnknownModel,
    UpdateRefused,
)
from gateway.stream.sources import JobSources, Preference
from gateway.stream.supervisor import Supervisor
from gateway.stream.swap import SwapPolicy, SwapTiming
from harness.waiting import DEADLINE, eventually

KEY = AccessUnit([b"\x65"], 0, 0, True)
LOST = Ended(EndReason.ORCHESTRATOR_LOST, "its channels closed")
HASTY = SwapTiming(
    poll=0.001,
    patience=0.05,
    turn=0.3,
    signer=0.3,
    first_retry=0.01,
    first_pause=0.005,
    standby_poll=0.01,
    max_standby_pause=60,
    output_check=0.002,
)
"""The same waits, a hundred times shorter."""
DELETED = Ended(EndReason.DELETED, "enough")


@dataclass(eq=False)
class FakeJob:
    """A job that comes up and then does what `ends` does; without it, it works until it is cancelled."""

    url: str
    host: JobHost
    ends: BaseException | None = None
    starts: bool = True
    shows: bool = True
    """Whether it gives a picture as soon as it has started."""
    up: asyncio.Event | None = None
    """What it waits for before it comes up, and with `until` before it ends."""
    until: asyncio.Event | None = None
    answering: asyncio.Event | None = None
    """What it waits for before it answers an update."""
    closes: asyncio.Event | None = None
    """What it waits for before it has given everything back."""
    refuses: bool = False
    credit: float = 0.0
    """Seconds for which it may be held."""
    held: bool = False
    problem: str = ""
    """Why nothing that it gives back can be shown."""
    price: Fraction = Fraction(1, 3)
    started: bool = False
    paid: bool = False
    paused: bool = False
    closed: EndReason | None = None
    left: bool = False
    """Whether it was closed for another run of the gateway to go on with."""
    frames: list[Frame] = field(default_factory=list)
    updates: list[Mapping[str, Any]] = field(default_factory=list)
    started_with: Mapping[str, Any] = field(default_factory=dict)

    async def run(self) -> None:
        await asyncio.sleep(0)
        if self.up is not None:
            await self.up.wait()
        if self.starts:
            self.frames += self.host.on_started().frames()
            self.started_with = self.host.params
            self.started = True
            if self.shows:
                self.host.on_output(KEY)
            await asyncio.sleep(0)
        if self.until is not None:
            await self.until.wait()
        if self.ends is not None:
            raise self.ends
        await asyncio.Event().wait()

    @property
    def longest_hold(self) -> float:
        return self.credit

    def hold(self) -> None:
        self.held = True

    def resume(self) -> None:
        self.held = False

    def push(self, frame: Frame) -> None:
        self.frames.append(frame)

    async def update(self, params: Mapping[str, Any]) -> Json:
        if not self.started:
            return {}
        if self.answering is not None:
            await self.answering.wait()
        if self.refuses:
            raise UpdateRefused("worker_busy", "too many")
        self.updates.append(params)
        return {}

    async def close(self, reason: EndReason, *, leave: bool = False) -> None:
        self.left = leave
        await asyncio.sleep(0)
        if self.closes is not None:
            await self.closes.wait()
        self.closed = reason

    def status(self) -> JobStatus:
        third = Fraction(1, 3)
        payments = PaymentStatus(
            accepted=1,
            tickets=2,
            credited=third,
            owed=third,
            last_accepted_age=None,
            next_due_in=None,
            credit_left=None,
            state="ok",
            alarms=0,
        )
        orchestrator = OrchestratorRef(url=self.url, price=self.price)
        problem = (self.problem, time.monotonic()) if self.problem else None
        return JobStatus(orchestrator=orchestrator, payments=payments, segments=5, problem=problem)


class FakeSource:
    """Opens the jobs of its script, one each time. `first_payment` is what each candidate costs, in wei."""

    def __init__(
        self, *script: dict[str, Any], urls: Sequence[str] = ("a", "b", "c"), name: str = "fake"
    ) -> None:
        self.name = name
        self.script = list(script)
        self.urls = urls
        self.jobs: list[FakeJob] = []
        self.suspended: dict[str, Ended] = {}
        self.full: set[str] = set()
        self.taken: set[str] = set()
        """Whose room other starts of ours are taking."""
        self.first_payment = Fraction(0)
        self.restart = 0.0
        self.unknown: UnknownModel | TooManyModels | None = None
        """Why it has no candidates with any model."""
        self.untrusted: set[str] = set()
        self.proven: set[str] = set()
        self.free: set[str] = set()
        self.refusal: Exception | None = None
        """What stands against a first payment."""

    async def prepare(self, request: PublishRequest) -> None:
        if self.unknown is not None:
            raise self.unknown

    def candidates(self, request: PublishRequest) -> list[Candidate]:
        asked = request.orchestrator
        return [self._candidate(url) for url in self.urls if asked in (None, url)]

    def _candidate(self, url: str) -> Candidate:
        made = Candidate(
            source=self,
            url=url,
            addr=url,
            price=Fraction(1, 3),
            first_payment=Fraction(0) if url in self.free else self.first_payment,
            restart=self.restart,
        )
        if url in self.suspended:
            made.set_verdict(Verdict.SET_ASIDE, self.suspended[url].detail)
        elif url in self.full | self.taken:
            made.set_verdict(Verdict.NO_CAPACITY, "it is full")
            made.starts_under_way = url in self.taken
        elif url in self.untrusted:
            made.set_verdict(Verdict.UNTRUSTED, "it has its start")
        made.proven = url in self.proven
        return made

    def admit(self, request: PublishRequest, candidates: Sequence[Candidate]) -> None:
        assert all(candidate.admissible and candidate.source is self for candidate in candidates)
        if self.refusal is not None:
            raise self.refusal

    def open(
        self, candidate: Candidate, request: PublishRequest, host: JobHost, log: FilteringBoundLogger
    ) -> FakeJob:
        script = dict(self.script[len(self.jobs)])
        candidate.paid_without_picture = script.pop("paid_without_picture", False)
        self.jobs.append(FakeJob(candidate.url, host, **script))
        return self.jobs[-1]

    def suspend(self, candidate: Candidate, request: PublishRequest, failure: Ended) -> None:
        self.suspended[candidate.url] = failure

    def forgive(self, candidate: Candidate, request: PublishRequest, failure: Ended) -> None:
        assert self.suspended.pop(candidate.url) is failure

    def reasons_not_ready(self) -> list[str]:
        return [] if self.urls else [f"{self.name} has nobody"]

    @property
    def asked(self) -> str:
        return "".join(job.url for job in self.jobs)


class Publisher:
    """The stream's part: holds a key frame, and says when the last one came."""

    audio_agreed = False

    def __init__(self) -> None:
        self.silence = 0.0
        self.failures: list[Ended] = []
        self.standbys: list[str] = []
        self.said: list[dict[str, Any]] = []
        self.held = GopBuffer()
        self.held.push(KEY)
        self.shown: list[Frame] = []
        self.limits: list[int | None] = []
        self.params: Mapping[str, Any] = {}
        self.last_update: Mapping[str, Any] | None = None
        self.errors: list[str] = []

    def on_output(self, frame: Frame) -> None:
        self.shown.append(frame)

    def on_live(self, made: Sequence[Frame]) -> None:
        self.shown += made

    def on_standby(self, state: str, detail: str) -> None:
        self.standbys.append(state)

    def on_worker_event(self, event: dict[str, Any]) -> None:
        self.said.append(event)

    def on_job_failed(self, failure: Ended, *, was_live: bool) -> None:
        self.failures.append(failure)

    def input_age(self) -> float:
        return self.silence

    def report_error(self, detail: str) -> None:
        self.errors.append(detail)

    def keep_params(self, params: Mapping[str, Any]) -> None:
        kept = WorkerParams.of(self.params).updated(params)
        self.params, self.last_update = kept.values, kept.last_update

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


def only(source: FakeSource) -> JobSources:
    return JobSources([source], Preference(source.name, fallback=False))


def supervised(
    network: FakeSource,
    publisher: Publisher | None = None,
    *,
    max_swaps: int = 3,
    max_paid_starts: int = 3,
    output_timeout: float = 30,
    pause: float = HASTY.first_pause,
    max_standby_pause: float = HASTY.max_standby_pause,
    standby: bool = False,
    await_room: bool = False,
    make_room: Callable[[Sequence[Candidate]], bool] = lambda candidates: False,
) -> Supervisor:
    request = PublishRequest(name="cam", stream_id="cam", request_id="1", model="m", standby=standby)
    sources = only(network)
    timing = replace(HASTY, first_pause=pause, max_standby_pause=max_standby_pause)
    return Supervisor(
        sources,
        request,
        sources.candidates(request),
        publisher or Publisher(),
        policy=SwapPolicy(max_swaps, max_paid_starts, output_timeout, timing),
        log=structlog.get_logger(),
        await_room=await_room,
        make_room=make_room,
    )


async def end_of(supervisor: Supervisor) -> Ended:
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(Ended) as ended:
            await supervisor.run()
        await supervisor.close(ended.value)
    return ended.value


@asynccontextmanager
async def at_work(supervisor: Supervisor, network: FakeSource, jobs: int) -> AsyncIterator[None]:
    """A supervisor whose script's last job is live; then it ends as a stream does."""
    running = asyncio.get_running_loop().create_task(supervisor.run())
    try:
        await eventually(
            lambda: running.done() or (len(network.jobs) == jobs and supervisor.live), deadline=5, every=0.001
        )
        yield
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await supervisor.close(DELETED)


async def works_on(supervisor: Supervisor, network: FakeSource, jobs: int) -> None:
    """Run until the script's last job is live, then end as a stream does."""
    async with at_work(supervisor, network, jobs):
        pass
