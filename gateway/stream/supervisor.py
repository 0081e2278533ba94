"""Keeps a job at work for one stream: opens the first, and puts another in the place of one that fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from structlog.typing import FilteringBoundLogger

from gateway.media.frames import AccessUnit, Frame
from gateway.media.gop import GopBuffer
from gateway.reason import Ended, EndReason, NoRoom, first_error
from gateway.stream.relay import Candidate, Ingest, Json, PublishRequest, Relay, Relays, RelayStatus
from gateway.stream.swap import ENDS_THE_STREAM, PATIENCE, Attempts, OutputWatch, SwapBudget, SwapPolicy
from gateway.tasks import spawn

INPUT_RECENT = 1.0
"""Seconds since the last frame within which a publisher counts as sending."""
POLL = 0.1
WATCH_POLL = 0.25


class Host(Protocol):
    """The stream, as its supervisor sees it."""

    @property
    def ingest(self) -> Ingest:
        """The publisher."""

    def on_output(self, frame: Frame) -> None:
        """A frame came back."""

    def on_live(self) -> GopBuffer:
        """A job takes frames from now on; gives those to begin with."""

    def on_job_failed(self, failure: Ended, *, was_live: bool) -> None:
        """There is no job for the moment."""

    def input_age(self) -> float:
        """Seconds since the publisher's last frame."""


class Supervisor:
    """One stream's jobs, one after the other.

    `run` is to be started when there is a key frame to begin with. It raises Ended when the stream cannot
    go on; a job's own failure is met with another job while anybody is left and `policy` allows it.
    Whatever `run` ended with, `close` follows.
    """

    def __init__(
        self,
        relays: Relays[Any],
        request: PublishRequest,
        candidates: Sequence[Candidate],
        host: Host,
        *,
        policy: SwapPolicy,
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.candidates = candidates
        self.swaps = 0
        """How often another job took over."""
        self._relays = relays
        self._request = request
        self._host = host
        self._policy = policy
        self._log = log
        self._clock = clock
        self._relay: Relay | None = None
        self._watch: OutputWatch | None = None
        self._budget = SwapBudget(policy.max_swaps)
        self._attempts = Attempts()
        self._was_live = False
        self._retired: dict[Relay, asyncio.Task[None]] = {}
        self._former = RelayStatus()

    # the stream's side

    @property
    def live(self) -> bool:
        """Whether a job takes frames now."""
        return self._relay is not None and self._relay.live

    @property
    def paused(self) -> bool:
        """Whether the job's worker was asked to give no pictures for now."""
        return self._relay is not None and self._relay.paused

    def push(self, frame: Frame) -> None:
        """Hand one frame of the publisher to the job that is live; dropped where none is."""
        if self._relay is not None and self._relay.live:
            self._relay.push(frame)

    async def update(self, params: Mapping[str, Any]) -> Json:
        """Hand new parameters to the worker, and give its answer, if it has one. Raises UpdateRefused."""
        relay = self._relay
        return await relay.update(params) if relay is not None and relay.live else {}

    def status(self) -> RelayStatus:
        """The running job's account of itself, or the last one's; sums are over all jobs."""
        total = self._former
        for relay in (*self._retired, *((self._relay,) if self._relay else ())):
            total = relay.status().after(total)
        return total

    async def close(self, reason: EndReason) -> None:
        """Give back all that any job took."""
        if self._relay is not None:
            self._retire(self._relay, reason)
        await asyncio.gather(*self._retired.values(), return_exceptions=True)

    # the jobs

    async def run(self) -> NoReturn:
        """Keep a job at work. Raises Ended."""
        failures: list[Ended] = []
        while True:
            candidate = await self._choose(failures)
            failure, was_live = await self._work(candidate)
            if was_live:
                failures.clear()
            failures.append(failure)

    async def _choose(self, failures: Sequence[Ended]) -> Candidate:
        """The best candidate there is; after a live job's end one is waited for. Raises Ended for nobody.

        `failures` are those since a job was live, first the one that ended it.
        """
        patient_until = self._clock() + (PATIENCE if self._was_live else 0)
        while True:
            await self._publisher_sends()
            now = self._clock()
            candidate = self._best(now, again=now < patient_until)
            if candidate is not None:
                if self._was_live:
                    self._budget.spend(failures[-1], now)
                return candidate
            if now >= patient_until:
                raise self._nobody(failures)
            await asyncio.sleep(POLL)

    def _best(self, now: float, *, again: bool) -> Candidate | None:
        self.candidates = list(self._relays.candidates(self._request))
        for candidate in self.candidates:
            if candidate.usable:
                why_not = self._attempts.why_not(candidate.url, now, again=again and self._was_live)
                if not why_not:
                    candidate.choose()
                    return candidate
                candidate.passed_over(why_not)
        return None

    def _nobody(self, failures: Sequence[Ended]) -> Ended:
        if self._was_live or len(failures) == 1:
            return failures[0]
        said = "; ".join(failure.detail for failure in failures)
        return Ended(EndReason.NO_ORCHESTRATOR, said or "no orchestrator can take this stream any more")

    async def _publisher_sends(self) -> None:
        """Wait while the publisher is silent: a job for nobody would be paid for nothing."""
        while True:
            if self._host.input_age() < INPUT_RECENT:
                return
            await asyncio.sleep(POLL)

    async def _work(self, candidate: Candidate) -> tuple[Ended, bool]:
        """One job's whole life: why it failed, and whether it had been live. Raises what ends the stream."""
        relay = self._relays.open(
            candidate, self._request, self._on_output, self._on_live, self._host.ingest, self._log
        )
        self._relay = relay
        failure = await self._failure_of(relay)
        if failure.reason in ENDS_THE_STREAM and not isinstance(failure, _Mistake):
            raise failure
        was_live, now = relay.live, self._clock()
        self._retire(relay, failure.reason)
        self._log.warning(
            "job failed", url=candidate.url, reason=str(failure.reason), detail=failure.detail, live=was_live
        )
        if failure.reason is EndReason.PRICE_RAISED:
            self._attempts.left(candidate.url, failure.detail)
        elif not was_live or self._host.input_age() < INPUT_RECENT:
            self._relays.set_aside(candidate, failure)
        if not was_live:
            self._attempts.failed(candidate.url, failure.detail, now)
            if self._was_live and isinstance(failure, NoRoom):
                self._budget.refund()
        candidate.passed_over(failure.detail)
        self._host.on_job_failed(failure, was_live=was_live)
        return failure, was_live

    async def _failure_of(self, relay: Relay) -> Ended:
        name = f"job {self._request.request_id}"
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_run(relay), name=f"{name} run")
                group.create_task(self._watch_output(), name=f"{name} output watch")
        except BaseExceptionGroup as errors:
            error = first_error(errors)
        if isinstance(error, Ended):
            return error
        self._log.error("job failed by a mistake", exc_info=error)
        return _Mistake(EndReason.INTERNAL_ERROR, f"a mistake in the gateway: {error!r}")

    async def _watch_output(self) -> None:
        while True:
            await asyncio.sleep(WATCH_POLL)
            if self._watch is not None and self.paused:
                self._watch.came(self._clock())
            elif self._watch is not None:
                silence = self._watch.overdue(self._clock(), self._host.input_age())
                if silence:
                    raise Ended(
                        EndReason.ORCHESTRATOR_LOST,
                        f"no picture came back for {silence:.0f} s while the publisher was sending",
                    )

    def _retire(self, relay: Relay, reason: EndReason) -> None:
        """Have a job give back what it took, without waiting for it."""
        self._relay = self._watch = None
        self._retired[relay] = spawn(self._close(relay, reason), name=f"job-close {self._request.request_id}")

    async def _close(self, relay: Relay, reason: EndReason) -> None:
        try:
            await relay.close(reason)
        finally:
            del self._retired[relay]
            self._former = relay.status().after(self._former)

    # the job's side

    def _on_output(self, frame: Frame) -> None:
        if self._watch is not None and isinstance(frame, AccessUnit):
            self._watch.came(self._clock())
        self._host.on_output(frame)

    def _on_live(self) -> GopBuffer:
        self._watch = OutputWatch(self._policy.output_timeout, self._clock())
        self._attempts.succeeded()
        self.swaps += self._was_live
        self._was_live = True
        return self._host.on_live()


class _Mistake(Ended):
    """A job ended by an exception that nobody expected: it is replaced like any other that failed."""


async def _run(relay: Relay) -> NoReturn:
    try:
        await relay.run()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # a TaskGroup would take it for the end of a task that somebody cancelled
        raise RuntimeError("the job cancelled itself") from None
    raise Ended(EndReason.ORCHESTRATOR_LOST, "the job ended by itself")
