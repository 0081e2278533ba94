"""A paid job whose publisher is gone: how long it waits, who may go on with it, and what it gives back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from gateway.candidates.verdict import Verdict
from gateway.payments.spending import StreamLimits
from gateway.reason import Ended, EndReason
from gateway.stream.admission import Admission
from gateway.stream.held_job import HeldJob
from gateway.stream.quotas import Claim, LimitReached
from gateway.stream.registry import StreamRegistry
from gateway.stream.seam import Candidate
from gateway.stream.stream import State, Stream
from harness.waiting import eventually
from tests.stream.jobs import FakeSource, only
from tests.stream.live import REQUEST, live_publisher, offer, registry_on

LEFT = Ended(EndReason.DELETED, "its publisher sent DELETE")
ALONE = [Claim("-maxStreams", 1)]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ends_after(held: HeldJob, clock: Clock, seconds: float) -> str:
    """Check that it may wait for so long and no longer, and give the detail of its end."""
    clock.now += seconds - 0.1
    held.check()
    clock.now += 0.2
    with pytest.raises(Ended) as ended:
        held.check()
    assert ended.value.reason is LEFT.reason
    return ended.value.detail


def test_it_waits_for_the_time_limit_and_no_longer_than_its_credit_lasts() -> None:
    for timeout, credit, why in ((10, 50, "within 10 s"), (60, 40, "credit")):
        clock = Clock()
        held = HeldJob(LEFT, timeout=timeout, credit=credit, clock=clock)
        assert why in ends_after(held, clock, min(timeout, credit))


def test_for_a_publisher_that_is_connecting_it_waits_until_its_credit_is_used_up() -> None:
    clock = Clock()
    held = HeldJob(LEFT, timeout=10, credit=50, clock=clock)
    held.publisher_came()
    assert "credit" in ends_after(held, clock, 50)


def test_one_that_leaves_before_its_first_key_frame_may_come_back_again() -> None:
    clock = Clock()
    held = HeldJob(LEFT, timeout=10, credit=50, clock=clock)
    clock.now += 9
    held.publisher_came()
    clock.now += 9
    held.publisher_left()
    assert "within 10 s" in ends_after(held, clock, 10)


@asynccontextmanager
async def held(registry: StreamRegistry) -> AsyncIterator[Stream]:
    """A stream whose job waits for its publisher."""
    async with live_publisher(registry, claims=ALONE) as (stream, _):
        stream.publishers.leave(LEFT.reason, LEFT.detail)
        await eventually(lambda: stream.state is State.WAITING_FOR_PUBLISHER, what="the hold")
    try:
        yield stream
    finally:
        await registry.close(EndReason.DRAINED, "the test is over")


PAID = {"credit": 50.0}


def paid(*more: dict[str, Any]) -> FakeSource:
    return FakeSource(PAID, *more)


@pytest.mark.asyncio
async def test_the_same_publisher_goes_on_with_the_same_job_and_its_stream_may_be_ended() -> None:
    network = paid()
    registry = registry_on(only(network), resume_timeout=30)
    async with held(registry) as stream:
        (job,) = network.jobs
        assert job.held
        session = stream.publishers.session
        again = replace(REQUEST, request_id="2")
        async with live_publisher(registry, again) as (same, _):
            assert same is stream
            assert stream.publishers.session is not session
            assert registry.by_session(session.id) is None
            assert registry.by_session(stream.publishers.session.id) is stream
            assert (stream.publishers.resumed, job.held, stream.request.request_id) == (1, False, "1")
            stream.end(EndReason.TERMINATED, "enough")
            await stream.finished.wait()
    assert network.asked == "a"
    assert job.closed is EndReason.TERMINATED


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "change",
    [
        {"publisher": "another"},
        {"model": "another"},
        {"orchestrator": "b"},
        {"stream_id": "another"},
        {"limits": StreamLimits(wei=1)},
    ],
)
async def test_who_asks_for_something_else_gets_a_job_of_its_own(change: dict[str, Any]) -> None:
    network = paid(PAID)
    registry = registry_on(only(network), resume_timeout=30)
    async with held(registry) as stream:
        other = replace(REQUEST, request_id="2", **change)
        async with live_publisher(registry, other, claims=ALONE) as (following, _):
            assert following is not stream
            await stream.finished.wait()
    assert network.jobs[0].closed is EndReason.PUBLISHER_LEFT
    assert len(network.jobs) == 2


@pytest.mark.asyncio
async def test_other_parameters_are_an_update_and_none_or_the_same_are_not() -> None:
    network = paid()
    registry = registry_on(only(network), resume_timeout=30)
    async with held(registry) as stream:
        for params in (REQUEST.params, {}, {"prompt": "y"}, {"prompt": "y"}, REQUEST.params):
            async with live_publisher(registry, replace(REQUEST, params=params)) as (same, _):
                assert same is stream
                stream.publishers.leave(LEFT.reason, LEFT.detail)
                await eventually(lambda: stream.state is State.WAITING_FOR_PUBLISHER, what="the hold")
    assert network.jobs[0].updates == [{"prompt": "y"}, REQUEST.params]


@pytest.mark.asyncio
async def test_it_counts_in_no_quota_and_has_no_right_to_one() -> None:
    network = paid(PAID)
    registry = registry_on(only(network), resume_timeout=30)
    async with held(registry) as stream:
        other = replace(REQUEST, name="other", stream_id="other")
        async with live_publisher(registry, other, claims=ALONE) as (following, _):
            with pytest.raises(LimitReached):
                await registry.publish(REQUEST, await offer(), ALONE)
            assert stream.publishers.held_job is not None
            following.end(EndReason.DELETED, "enough")
            await following.finished.wait()
        async with live_publisher(registry, claims=ALONE) as (same, _):
            assert same is stream


@pytest.mark.asyncio
async def test_without_a_time_limit_or_a_paid_job_and_while_draining_a_stream_ends_at_once() -> None:
    for network, seconds, draining in (
        (FakeSource({}), 30.0, False),
        (paid(), 0.0, False),
        (paid(), 30.0, True),
    ):
        admission = Admission()
        registry = registry_on(only(network), admission, resume_timeout=seconds)
        async with live_publisher(registry) as (stream, _):
            admission.draining = draining
            stream.publishers.leave(LEFT.reason, LEFT.detail)
            await stream.finished.wait()
        assert stream.ended is not None
        assert stream.ended[0].detail == LEFT.detail
        assert not network.jobs[0].held


@pytest.mark.asyncio
async def test_a_publisher_that_leaves_as_its_stream_is_ended_does_not_hold_it() -> None:
    for first in (True, False):
        network = paid()
        registry = registry_on(only(network), resume_timeout=30)
        async with live_publisher(registry) as (stream, client):
            if first:
                stream.publishers.leave(LEFT.reason, LEFT.detail)
            stream.end(EndReason.TERMINATED, "enough")
            stream.publishers.leave(LEFT.reason, LEFT.detail)
            await client.close()
            await stream.finished.wait()
        assert network.jobs[0].closed is EndReason.TERMINATED


@pytest.mark.asyncio
async def test_it_ends_with_its_job_and_where_another_stream_needs_its_place() -> None:
    class Full(FakeSource):
        def _candidate(self, url: str) -> Candidate:
            made = super()._candidate(url)
            if any(job.url == url and job.closed is None for job in self.jobs):
                made.set_verdict(Verdict.NO_CAPACITY, "it is full")
            return made

    network = Full(PAID, PAID, urls="a")
    registry = registry_on(only(network), resume_timeout=30)
    async with held(registry) as stream:
        other = replace(REQUEST, name="other", stream_id="other")
        async with live_publisher(registry, other) as (following, _):
            assert stream.finished.is_set()
            following.publishers.leave(LEFT.reason, LEFT.detail)
            await eventually(lambda: following.state is State.WAITING_FOR_PUBLISHER, what="the hold")
            following.on_job_failed(Ended(EndReason.ORCHESTRATOR_LOST, "gone"), was_live=True)
            await following.finished.wait()
            assert following.ended is not None
            assert (following.ended[0].reason, "gone" in following.ended[0].detail) == (LEFT.reason, True)
