"""Streams of a former run of the gateway, and those that are left to the next one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from structlog.typing import FilteringBoundLogger

from gateway.payments.spending import StreamLimits
from gateway.reason import ChooseAgain, EndReason
from gateway.stream.registry import StreamRegistry
from gateway.stream.seam import FormerStream, Job, JobHost, PublishRequest, ResumableJob
from gateway.stream.stream import State
from harness.waiting import eventually
from tests.stream.jobs import FakeJob, FakeSource, only
from tests.stream.live import REQUEST, live_publisher, live_stream, registry_on

GONE = ChooseAgain(EndReason.ORCHESTRATOR_LOST, "its channels are closed")


class FormerRun:
    """What the run before left: jobs of this script, on a source with the other one."""

    def __init__(self, *script: dict[str, Any], others: Sequence[dict[str, Any]] = ()) -> None:
        self.network = FakeSource(*others)
        self.script = script
        self.jobs: list[FakeJob] = []

    def stream(self, request: PublishRequest = REQUEST, seconds: float = 30.0) -> FormerStream:
        return FormerStream(
            request=request,
            last_update={"prompt": "newest"},
            jobs=[self._resumable(settings) for settings in self.script],
            seconds=seconds,
        )

    def registry(self) -> StreamRegistry:
        return registry_on(only(self.network), resume_timeout=10)

    def _resumable(self, settings: dict[str, Any]) -> ResumableJob:
        def open_job(host: JobHost, log: FilteringBoundLogger) -> Job:
            self.jobs.append(FakeJob("former", host, **{"credit": 50.0, "shows": False, **settings}))
            return self.jobs[-1]

        candidate = self.network.candidates(REQUEST)[0]
        return ResumableJob(candidate=candidate, open=open_job)


@pytest.mark.asyncio
async def test_its_publisher_goes_on_with_its_job_as_the_same_stream() -> None:
    run = FormerRun({})
    registry = run.registry()
    hour_ago = replace(REQUEST, wall_ns=time.time_ns() - 3600 * 10**9)
    stream = registry.restore(run.stream(hour_ago))
    await eventually(lambda: run.jobs and run.jobs[0].started, every=0.005)
    (job,) = run.jobs
    assert registry.find("cam") is stream
    assert registry.holds_jobs
    assert (stream.state, job.held, stream.publishers.peer) == (State.WAITING_FOR_PUBLISHER, True, None)
    assert 3590 < stream.elapsed < 3700
    assert stream.last_update == {"prompt": "newest"}
    again = replace(REQUEST, request_id="2", params={"prompt": "other"})
    job.shows = True
    client = live_publisher(registry, again)
    # it is live with its first picture back, which this job gives for the publisher's first
    shown = job.push

    def show(frame: Any) -> None:
        shown(frame)
        job.host.on_output(frame)

    job.push = show  # type: ignore[method-assign]
    async with client as (same, _):
        assert same is stream
        assert (stream.publishers.resumed, job.held, stream.request.request_id) == (1, False, "1")
        assert job.updates == [{"prompt": "other"}]
        assert run.network.asked == ""
        assert stream.supervisor.swaps == 0
        stream.end(EndReason.TERMINATED, "enough")
        await stream.finished.wait()
    assert job.closed is EndReason.TERMINATED
    await registry.close(EndReason.DRAINED, "the test is over")


@pytest.mark.asyncio
async def test_nobody_comes_and_everything_is_given_back() -> None:
    run = FormerRun({})
    registry = run.registry()
    stream = registry.restore(run.stream(seconds=0.1))
    await stream.finished.wait()
    assert stream.ended is not None
    assert stream.ended[0].reason is EndReason.PUBLISHER_LEFT
    assert "started again" in stream.ended[0].detail
    assert (run.jobs[0].closed, run.jobs[0].left) == (EndReason.PUBLISHER_LEFT, False)
    assert not registry.holds_jobs


@pytest.mark.asyncio
async def test_a_session_that_the_orchestrator_forgot_is_nobodys_fault_and_the_publisher_starts_anew() -> (
    None
):
    run = FormerRun({"ends": GONE}, others=[{}])
    registry = run.registry()
    stream = registry.restore(run.stream())
    await stream.finished.wait()
    assert run.network.suspended == {}
    async with live_stream(registry) as other:
        assert other is not stream
        assert run.network.asked == "a"
    await registry.close(EndReason.DRAINED, "the test is over")


@pytest.mark.asyncio
async def test_who_asks_for_something_else_takes_the_name_and_gets_a_job_of_its_own() -> None:
    run = FormerRun({}, others=[{}])
    registry = run.registry()
    stream = registry.restore(run.stream())
    other = replace(REQUEST, publisher="another", request_id="2")
    async with live_stream(registry, other) as following:
        assert following is not stream
        await stream.finished.wait()
        assert run.jobs[0].closed is EndReason.PUBLISHER_LEFT
    await registry.close(EndReason.DRAINED, "the test is over")


@pytest.mark.asyncio
async def test_a_time_limit_counts_from_the_first_publish() -> None:
    run = FormerRun({})
    limited = replace(REQUEST, limits=StreamLimits(seconds=60), wall_ns=time.time_ns() - 61 * 10**9)
    stream = run.registry().restore(run.stream(limited))
    await stream.finished.wait()
    assert stream.ended is not None
    assert stream.ended[0].reason is EndReason.TIME_LIMIT


@pytest.mark.asyncio
async def test_the_job_that_stood_by_stands_by_again() -> None:
    run = FormerRun({}, {})
    registry = run.registry()
    stream = registry.restore(run.stream(replace(REQUEST, standby=True)))
    await eventually(lambda: len(run.jobs) == 2, every=0.005)
    standby = stream.supervisor.standby_status()
    assert standby is not None
    assert standby.state == "starting"
    assert [job.held for job in run.jobs] == [True, True]
    await registry.close(EndReason.DRAINED, "the test is over", leave=True)
    assert [job.left for job in run.jobs] == [True, True]


@pytest.mark.asyncio
@pytest.mark.parametrize("timeout", [30.0, 0.0])
async def test_what_is_live_when_the_gateway_stops_is_left_where_jobs_may_be_held(timeout: float) -> None:
    network = FakeSource({"credit": 50.0})
    registry = registry_on(only(network), resume_timeout=timeout)
    async with live_stream(registry) as stream:
        await registry.close(EndReason.DRAINED, "the gateway stops", leave=True)
        assert (network.jobs[0].closed, network.jobs[0].left) == (EndReason.DRAINED, timeout > 0)
        assert stream.finished.is_set()


@pytest.mark.asyncio
async def test_jobs_that_wait_when_the_gateway_is_told_to_stop_are_left_at_once() -> None:
    network = FakeSource({"credit": 50.0})
    registry = registry_on(only(network), resume_timeout=30)
    async with live_stream(registry) as stream:
        stream.publishers.leave(EndReason.DELETED, "its publisher sent DELETE")
        await eventually(lambda: stream.publishers.held_job is not None, what="the hold")
        registry.leave_held("the gateway stops")
        await stream.finished.wait()
        assert network.jobs[0].left


@pytest.mark.asyncio
async def test_a_stream_that_ends_for_another_reason_leaves_nothing() -> None:
    network = FakeSource({"credit": 50.0})
    registry = registry_on(only(network), resume_timeout=30)
    async with live_stream(registry) as stream:
        stream.end(EndReason.SPEND_LIMIT, "enough")
        await registry.close(EndReason.DRAINED, "the gateway stops", leave=True)
        assert (network.jobs[0].closed, network.jobs[0].left) == (EndReason.SPEND_LIMIT, False)


def test_a_request_is_read_as_it_was_written_and_nothing_else_is() -> None:
    limits = StreamLimits(wei=2**80, seconds=5)
    request = replace(REQUEST, limits=limits, orchestrator="b", standby=True, publisher="ann")
    read = PublishRequest.parse(request.json())
    assert (read, read.wall_ns) == (request, request.wall_ns)
    for name in request.json():
        for value in (object(), [], -1.5):
            with pytest.raises(ValueError, match=" "):
                PublishRequest.parse({**request.json(), name: value})
    for damaged in (None, {}, {**request.json(), "more": 1}):
        with pytest.raises(ValueError, match="fields"):
            PublishRequest.parse(damaged)
