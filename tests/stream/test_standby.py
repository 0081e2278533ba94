"""A job that stands by: it takes over with what it has made, and its own failures are nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import pytest

from gateway.media.frames import AccessUnit
from gateway.reason import Ended, EndReason, NoRoom
from gateway.stream.supervisor import StandbyStatus, Supervisor
from harness.waiting import eventually
from tests.stream.jobs import DELETED, KEY, LOST, FakeSource, Publisher, end_of, supervised


def picture(number: int, *, key: bool = False) -> AccessUnit:
    return AccessUnit([b"\x65" if key else b"\x41"], number, number, key)


@asynccontextmanager
async def standing_by(
    network: FakeSource, publisher: Publisher | None = None, **policy: Any
) -> AsyncIterator[Supervisor]:
    """A supervisor whose first two jobs are up: one active, one standing by."""
    supervisor = supervised(network, publisher, standby=True, **policy)
    running = asyncio.get_running_loop().create_task(supervisor.run())
    try:
        await eventually(lambda: len(network.jobs) > 1 and network.jobs[1].started, every=0.001)
        yield supervisor
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await supervisor.close(DELETED)
    assert all(job.closed for job in network.jobs), "all is given back"


def standby(supervisor: Supervisor) -> StandbyStatus:
    status = supervisor.standby_status()
    assert status is not None
    return status


def ready(supervisor: Supervisor) -> bool:
    return standby(supervisor).state == "ready"


@pytest.mark.asyncio
async def test_it_begins_with_the_held_frames_and_gets_all_that_come_but_shows_nothing() -> None:
    network, publisher = FakeSource({}, {}), Publisher()
    async with standing_by(network, publisher) as supervisor:
        supervisor.push(picture(1))
        await supervisor.update({"effect": "grey"})
        for job in network.jobs:
            assert job.frames == [KEY, picture(1)]
            assert job.updates == [{"effect": "grey"}]
        network.jobs[1].host.on_output(picture(2, key=True))
        assert publisher.shown == [KEY], "the active job's"
        assert ready(supervisor)


@pytest.mark.asyncio
async def test_it_takes_over_with_what_it_made_since_its_last_key_frame_and_another_stands_by() -> None:
    fails = asyncio.Event()
    network, publisher = FakeSource({"until": fails, "ends": LOST}, {}, {}), Publisher()
    async with standing_by(network, publisher) as supervisor:
        made = [picture(1, key=True), picture(2), picture(3, key=True), picture(4)]
        for frame in made:
            network.jobs[1].host.on_output(frame)
        fails.set()
        await eventually(lambda: supervisor.swaps == 1, every=0)
        assert publisher.shown == [KEY, *made[2:]]
        network.jobs[1].host.on_output(picture(5))
        assert publisher.shown == [KEY, *made[2:], picture(5)]
        await eventually(lambda: len(network.jobs) == 3, every=0.001, what="the next one that stands by")
        assert network.asked == "abc"
        assert network.jobs[0].closed is LOST.reason
        assert [c.verdict for c in supervisor.candidates][1] == "chosen"


@pytest.mark.asyncio
async def test_one_that_is_still_starting_is_what_takes_over() -> None:
    fails, up = asyncio.Event(), asyncio.Event()
    network = FakeSource({"until": fails, "ends": LOST}, {"up": up}, {})
    supervisor = supervised(network, standby=True)
    running = asyncio.get_running_loop().create_task(supervisor.run())
    await eventually(lambda: len(network.jobs) == 2, every=0.001)
    assert standby(supervisor).state == "starting"
    fails.set()
    await eventually(lambda: network.jobs[0].closed, every=0.001)
    up.set()
    await eventually(lambda: supervisor.live, every=0.001)
    assert network.asked.startswith("ab")
    assert supervisor.swaps == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await supervisor.close(DELETED)


@pytest.mark.asyncio
async def test_it_is_never_where_the_active_job_is() -> None:
    network = FakeSource({}, urls="a")
    supervisor = supervised(network, standby=True)
    running = asyncio.get_running_loop().create_task(supervisor.run())
    await eventually(lambda: "no other" in standby(supervisor).detail, every=0.001)
    await asyncio.sleep(0.05)  # five looks
    assert network.asked == "a"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await supervisor.close(DELETED)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "failure",
    [LOST, NoRoom(EndReason.ORCHESTRATOR_LOST, "full"), ValueError("odd"), asyncio.CancelledError()]
    + [
        Ended(reason, "why")
        for reason in (EndReason.SPEND_LIMIT, EndReason.SIGNER_REFUSED, EndReason.PRICE_RAISED)
    ],
    ids=str,
)
async def test_its_failure_ends_nothing_and_another_one_takes_its_place(failure: BaseException) -> None:
    fails = asyncio.Event()
    network, publisher = FakeSource({}, {"until": fails, "ends": failure}, {}), Publisher()
    async with standing_by(network, publisher, max_standby_pause=0.1) as supervisor:
        fails.set()
        await eventually(lambda: len(network.jobs) == 3, every=0.001)
        assert supervisor.live
        assert supervisor.swaps == 0
        assert publisher.failures == []
        assert network.jobs[0].closed is None
        blamed = not isinstance(failure, Ended) or failure.reason is EndReason.ORCHESTRATOR_LOST
        assert ("b" in network.suspended) == blamed


@pytest.mark.asyncio
async def test_after_a_refusal_by_the_signer_the_next_one_comes_after_the_longest_pause() -> None:
    refused = Ended(EndReason.SIGNER_REFUSED, "no money left")
    network = FakeSource({}, {"ends": refused}, {})
    supervisor = supervised(network, standby=True)
    running = asyncio.get_running_loop().create_task(supervisor.run())
    await eventually(lambda: "no money left" in standby(supervisor).detail, every=0.001)
    await asyncio.sleep(0.05)  # five looks
    assert len(network.jobs) == 2
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await supervisor.close(DELETED)


@pytest.mark.asyncio
async def test_one_that_does_not_follow_new_parameters_is_replaced() -> None:
    network = FakeSource({}, {"refuses": True}, {})
    async with standing_by(network) as supervisor:
        await supervisor.update({"effect": "grey"})
        await eventually(lambda: len(network.jobs) == 3, every=0.001)
        assert "new parameters" in network.suspended["b"].detail
        assert supervisor.live


@pytest.mark.asyncio
async def test_taking_over_counts_against_the_swaps_that_are_allowed() -> None:
    fails = asyncio.Event()
    network = FakeSource({"until": fails, "ends": LOST}, {"until": fails, "ends": LOST}, {})
    asyncio.get_running_loop().call_later(0.1, fails.set)
    ended = await end_of(supervised(network, standby=True, max_swaps=0))
    assert ended.reason is EndReason.SWAPS_EXHAUSTED


@pytest.mark.asyncio
async def test_a_publisher_that_has_gone_silent_is_no_reason_to_switch() -> None:
    fails = asyncio.Event()
    network, publisher = FakeSource({"until": fails, "ends": LOST}, {}, {}), Publisher()
    async with standing_by(network, publisher) as supervisor:
        publisher.silence = 9.0
        fails.set()
        await eventually(lambda: publisher.failures, every=0.001)
        await asyncio.sleep(0.05)
        assert supervisor.swaps == 0
        publisher.silence = 0.0
        await eventually(lambda: supervisor.swaps == 1, every=0.001)
        assert network.asked.startswith("ab")


@pytest.mark.asyncio
async def test_its_cost_is_in_the_streams_account_and_its_link_does_not_slow_the_publisher() -> None:
    network, publisher = FakeSource({}, {}), Publisher()
    async with standing_by(network, publisher) as supervisor:
        payments = supervisor.status().payments
        assert payments is not None
        assert payments.accepted == 2
        assert supervisor.burn() == Fraction(2, 3)
        network.jobs[1].host.limit_bitrate(1)
        network.jobs[0].host.limit_bitrate(2)
        assert publisher.limits == [2]


@pytest.mark.asyncio
async def test_a_job_that_starts_while_a_standby_takes_an_update_begins_with_it() -> None:
    answering, fails = asyncio.Event(), asyncio.Event()
    network = FakeSource({}, {"answering": answering, "until": fails, "ends": LOST}, {})
    async with standing_by(network) as supervisor:
        updating = asyncio.get_running_loop().create_task(supervisor.update({"effect": "grey"}))
        await eventually(lambda: network.jobs[0].updates, every=0)
        fails.set()
        await eventually(lambda: len(network.jobs) == 3 and network.jobs[2].started, every=0.001)
        assert network.jobs[2].started_with == {"effect": "grey"}
        answering.set()
        await updating


@pytest.mark.asyncio
async def test_status_says_why_a_candidate_does_not_stand_by() -> None:
    fails = asyncio.Event()
    network = FakeSource({}, {"until": fails, "ends": LOST}, {})
    async with standing_by(network) as supervisor:
        fails.set()
        await eventually(lambda: len(network.jobs) == 3, every=0.001)
        failed = next(candidate for candidate in supervisor.candidates if candidate.url == "b")
        assert (failed.verdict, failed.detail) == ("set_aside", LOST.detail)
        assert standby(supervisor).detail


@pytest.mark.asyncio
async def test_payments_without_a_picture_for_one_that_stands_by_are_counted_apart() -> None:
    vain = {"shows": False, "paid": True, "ends": LOST}
    network = FakeSource({"paid": True}, vain, vain, urls="abcd")
    network.first_payment = Fraction(60)
    async with standing_by(network, max_paid_starts=2) as supervisor:
        await eventually(lambda: "2 first payments" in standby(supervisor).detail, every=0.001)
        assert supervisor.live


@pytest.mark.asyncio
async def test_it_takes_over_with_its_own_credit_where_the_signer_signs_nothing_for_the_active_one() -> None:
    silent = Ended(EndReason.SIGNER_UNREACHABLE, "no answer")
    fails = asyncio.Event()
    network = FakeSource({"until": fails, "ends": silent}, {}, {"starts": False, "ends": silent}, {})
    async with standing_by(network) as supervisor:
        network.jobs[1].host.on_output(picture(1, key=True))
        fails.set()
        await eventually(lambda: supervisor.swaps == 1, every=0)
        assert not network.jobs[1].closed
        assert network.suspended == {}
