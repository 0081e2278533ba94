"""A stream's supervisor with jobs that fail in every way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest

from gateway.media.frames import OpusPacket
from gateway.reason import ChooseAgain, Ended, EndReason, NoRoom, ParamsRefused
from gateway.stream.seam import Candidate, UpdateRefused
from harness.waiting import eventually
from tests.stream.jobs import (
    DELETED,
    HASTY,
    KEY,
    LOST,
    FakeSource,
    Publisher,
    at_work,
    end_of,
    supervised,
    works_on,
)

SILENT = Ended(EndReason.SIGNER_UNREACHABLE, "no answer")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reason",
    [
        EndReason.ORCHESTRATOR_LOST,
        EndReason.PAYMENT_REFUSED,
        EndReason.PRICE_RAISED,
        EndReason.CREDIT_EXHAUSTED,
    ],
)
async def test_a_job_that_fails_is_replaced_and_the_next_one_begins_with_the_held_frames(
    reason: EndReason,
) -> None:
    network = FakeSource({"ends": Ended(reason, "why")}, {})
    supervisor = supervised(network)
    await works_on(supervisor, network, 2)
    assert network.asked == "ab"
    assert network.jobs[1].frames == [KEY]
    assert supervisor.swaps == 1
    assert [job.closed for job in network.jobs] == [reason, EndReason.DELETED]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reason",
    [
        EndReason.SIGNER_REFUSED,
        EndReason.SPEND_LIMIT,
        EndReason.TIME_LIMIT,
        EndReason.TAKEN_OVER,
        EndReason.INTERNAL_ERROR,
    ],
)
async def test_what_is_nobodys_fault_ends_the_stream_with_its_reason(reason: EndReason) -> None:
    network = FakeSource({"ends": Ended(reason, "why")})
    assert (await end_of(supervised(network))).reason is reason
    assert network.suspended == {}
    assert network.jobs[0].closed is reason


@pytest.mark.asyncio
async def test_a_live_stream_waits_for_a_signer_that_does_not_answer_and_blames_nobody() -> None:
    network = FakeSource({"ends": SILENT}, *[{"starts": False, "ends": SILENT}] * 5, {})
    supervisor = supervised(network, max_swaps=1)
    await works_on(supervisor, network, 7)
    assert network.suspended == {}
    assert supervisor.swaps == 1


@pytest.mark.asyncio
async def test_the_wait_for_a_signer_has_an_end_and_its_reason() -> None:
    network = FakeSource({"ends": SILENT}, *[{"starts": False, "ends": SILENT}] * 1000)
    since = time.monotonic()
    assert (await end_of(supervised(network))).reason is SILENT.reason
    assert time.monotonic() - since >= HASTY.signer
    assert network.suspended == {}
    assert {job.closed for job in network.jobs} == {SILENT.reason}


@pytest.mark.asyncio
async def test_a_stream_that_was_never_live_does_not_wait_for_the_signer() -> None:
    network = FakeSource({"starts": False, "ends": SILENT})
    assert await end_of(supervised(network)) is SILENT
    assert network.suspended == {}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "anything",
    [ValueError("odd"), KeyError(), MemoryError(), asyncio.CancelledError(), GeneratorExit(), TimeoutError()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("starts", [True, False], ids=["live", "starting"])
async def test_a_job_may_raise_anything_and_is_replaced(anything: BaseException, starts: bool) -> None:
    network = FakeSource({"ends": anything, "starts": starts}, {})
    supervisor = supervised(network)
    await works_on(supervisor, network, 2)
    assert network.jobs[0].closed is EndReason.INTERNAL_ERROR
    assert supervisor.swaps == (1 if starts else 0), "a start that failed is no swap"


@pytest.mark.asyncio
@pytest.mark.parametrize("raised", [LOST, ValueError("odd")], ids=lambda error: type(error).__name__)
async def test_what_is_kept_of_a_failure_keeps_no_job_in_memory(raised: Exception) -> None:
    network, publisher = FakeSource({"ends": raised}, {}), Publisher()
    await works_on(supervised(network, publisher), network, 2)
    (failure,) = publisher.failures
    assert failure.__traceback__ is None
    assert failure.__context__ is None


@pytest.mark.asyncio
async def test_without_anybody_else_the_stream_ends_with_its_jobs_own_reason() -> None:
    network = FakeSource({"ends": LOST}, urls="a")
    ended = await end_of(supervised(network))
    assert (ended.reason, ended.detail) == (LOST.reason, LOST.detail)


@pytest.mark.asyncio
async def test_somebody_who_comes_back_soon_is_waited_for() -> None:
    network = FakeSource({"ends": LOST}, {}, urls="a")
    asyncio.get_running_loop().call_later(0.02, network.suspended.clear)
    await works_on(supervised(network), network, 2)
    assert network.asked == "aa"


@pytest.mark.asyncio
async def test_a_server_that_may_restart_is_waited_for_longer_and_its_time_has_an_end() -> None:
    network = FakeSource({"ends": LOST}, {}, urls="a")
    network.restart = 30.0
    supervisor = supervised(network)
    running = asyncio.get_running_loop().create_task(works_on(supervisor, network, 2))
    await eventually(lambda: network.suspended, every=0.001)
    await asyncio.sleep(4 * HASTY.patience)
    assert not running.done()
    network.suspended.clear()
    await running
    assert network.asked == "aa"

    network = FakeSource({"ends": LOST}, urls="a")
    network.restart = 0.1
    assert await end_of(supervised(network)) is LOST


@pytest.mark.asyncio
async def test_a_message_that_nobody_can_take_now_is_refused_as_it_cannot_be_kept() -> None:
    supervisor = supervised(FakeSource())
    with pytest.raises(UpdateRefused, match="try again"):
        await supervisor.update({"type": "get_nodes"})
    await supervisor.close(DELETED)


@pytest.mark.asyncio
async def test_parameters_that_two_workers_refuse_end_the_stream_and_nobody_is_blamed() -> None:
    refused = ParamsRefused(EndReason.ORCHESTRATOR_LOST, "mode must be gray")
    network = FakeSource(*[{"ends": refused, "starts": False}] * 2)
    ended = await end_of(supervised(network))
    assert (ended.reason, network.asked, network.suspended) == (EndReason.NO_ORCHESTRATOR, "ab", {})
    assert "mode must be gray" in ended.detail
    network = FakeSource({"ends": refused, "starts": False}, {})
    await works_on(supervised(network), network, 2)
    assert network.suspended == {}
    network = FakeSource({"ends": refused, "starts": False}, urls="a")
    assert await end_of(supervised(network)) is refused


@pytest.mark.asyncio
async def test_a_first_start_tries_everybody_once_and_waits_for_nobody() -> None:
    failing = {"ends": LOST, "starts": False}
    network = FakeSource(failing, failing, failing)
    ended = await end_of(supervised(network))
    assert network.asked == "abc"
    assert ended.reason is EndReason.NO_ORCHESTRATOR
    assert ended.detail.count(LOST.detail) == 3


@pytest.mark.asyncio
async def test_too_many_swaps_end_the_stream_with_the_first_cause() -> None:
    network = FakeSource({"ends": LOST}, {"ends": Ended(EndReason.PAYMENT_REFUSED, "403")}, urls="abc")
    ended = await end_of(supervised(network, max_swaps=1))
    assert ended.reason is EndReason.SWAPS_EXHAUSTED
    assert "orchestrator_lost: its channels closed" in ended.detail
    assert len(network.jobs) == 2


@pytest.mark.asyncio
async def test_candidates_without_room_do_not_use_swaps_up() -> None:
    full = {"ends": NoRoom(EndReason.ORCHESTRATOR_LOST, "HTTP 503"), "starts": False}
    network = FakeSource({"ends": LOST}, full, full, {}, urls="abcd")
    await works_on(supervised(network, max_swaps=1), network, 4)
    assert isinstance(network.suspended["b"], NoRoom)


@pytest.mark.asyncio
async def test_a_silent_publisher_is_not_given_a_new_job_and_blames_nobody() -> None:
    network, publisher = FakeSource({"ends": LOST}, {}), Publisher()
    supervisor = supervised(network, publisher)
    running = asyncio.get_running_loop().create_task(supervisor.run())
    await eventually(lambda: network.jobs, every=0)
    publisher.silence = 5.0
    await eventually(lambda: publisher.failures, every=0)
    await asyncio.sleep(0.1)  # twice as long as a sending publisher's stream would wait
    assert len(network.jobs) == 1
    assert network.suspended == {}
    assert not running.done()
    publisher.silence = 0.0
    await eventually(lambda: len(network.jobs) == 2, every=0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await supervisor.close(DELETED)


@pytest.mark.asyncio
async def test_a_job_that_sends_nothing_back_is_replaced() -> None:
    network = FakeSource({}, {"ends": Ended(EndReason.SPEND_LIMIT, "enough")})
    assert (await end_of(supervised(network, output_timeout=0.05))).reason is EndReason.SPEND_LIMIT
    assert "no picture came back" in network.suspended["a"].detail


@pytest.mark.asyncio
async def test_sound_alone_does_not_make_up_for_pictures() -> None:
    network = FakeSource({}, {"ends": Ended(EndReason.SPEND_LIMIT, "enough")})
    running = asyncio.get_running_loop().create_task(end_of(supervised(network, output_timeout=0.05)))
    await eventually(lambda: network.jobs and network.jobs[0].started, every=0)

    async def replaced() -> bool:
        network.jobs[0].host.on_output(OpusPacket(b"sound", 0))
        return len(network.jobs) == 2

    await eventually(replaced, every=0.005, what="the replacement of a job that gives sound only")
    await running


@pytest.mark.asyncio
async def test_a_job_that_was_asked_to_pause_owes_no_picture_until_it_goes_on() -> None:
    network = FakeSource({"paused": True}, {})
    supervisor = supervised(network, output_timeout=0.05)
    running = asyncio.get_running_loop().create_task(supervisor.run())
    await eventually(lambda: network.jobs and network.jobs[0].started, every=0)
    await asyncio.sleep(0.6)  # many times what it may be silent, and two looks at it
    assert len(network.jobs) == 1
    network.jobs[0].paused = False
    await eventually(lambda: len(network.jobs) == 2, what="the replacement of a job that is silent")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await supervisor.close(DELETED)


@pytest.mark.asyncio
async def test_a_raised_price_is_left_for_the_streams_life_and_is_no_fault() -> None:
    raised = Ended(EndReason.PRICE_RAISED, "twice as dear")
    network = FakeSource({"ends": raised}, {"ends": LOST}, urls="ab")
    asyncio.get_running_loop().call_later(0.02, network.suspended.clear)
    network.script.append({"ends": Ended(EndReason.TIME_LIMIT, "over")})
    assert (await end_of(supervised(network))).reason is EndReason.TIME_LIMIT
    assert network.asked == "abb"


@pytest.mark.asyncio
async def test_an_offer_that_changed_is_no_fault_and_is_chosen_once_more_at_its_new_price() -> None:
    changed = ChooseAgain(EndReason.PRICE_RAISED, "1 % dearer")
    failing = {"ends": changed, "starts": False}
    network = FakeSource(failing, failing, urls="a")
    assert (await end_of(supervised(network))).reason is EndReason.NO_ORCHESTRATOR
    assert (network.asked, network.suspended) == ("aa", {})
    network = FakeSource(failing, {}, urls="a")
    await works_on(supervised(network), network, 2)


@pytest.mark.asyncio
async def test_a_stream_waits_for_the_turn_of_a_candidate_that_may_have_only_so_many_starts() -> None:
    network = FakeSource({}, urls="a")
    network.untrusted.add("a")
    asyncio.get_running_loop().call_later(0.1, network.untrusted.clear)
    await works_on(supervised(network), network, 1)
    network = FakeSource(urls="a")
    network.untrusted.add("a")
    ended = await end_of(supervised(network))
    assert (ended.reason, network.asked) == (EndReason.NO_ORCHESTRATOR, "")


@pytest.mark.asyncio
async def test_a_stream_waits_until_the_starts_that_take_the_room_are_over() -> None:
    network = FakeSource({}, urls="a")
    network.taken.add("a")
    asyncio.get_running_loop().call_later(0.1, network.taken.clear)
    await works_on(supervised(network), network, 1)
    network = FakeSource(urls="a")
    network.full.add("a")
    ended = await end_of(supervised(network))
    assert (ended.reason, network.asked) == (EndReason.NO_ORCHESTRATOR, "")


@pytest.mark.asyncio
async def test_after_a_first_payment_that_brought_nothing_who_has_delivered_goes_first() -> None:
    network = FakeSource({"ends": LOST, "starts": False, "paid_without_picture": True}, {}, urls="abc")
    network.proven.add("c")
    await works_on(supervised(network), network, 2)
    assert network.asked == "ac"
    network = FakeSource({"ends": LOST, "starts": False}, {}, urls="abc")
    network.proven.add("c")
    await works_on(supervised(network), network, 2)
    assert network.asked == "ab", "nothing was paid: the order is that of the prices"


@pytest.mark.asyncio
async def test_the_account_sums_all_jobs_and_rounds_once() -> None:
    network = FakeSource({"ends": LOST}, {"ends": LOST}, {})
    supervisor = supervised(network)
    await works_on(supervisor, network, 3)
    status = supervisor.status()
    assert status.segments == 15
    assert status.payments is not None
    assert status.payments.accepted == 3
    assert (status.payments.credited, status.payments.owed) == (1, 1)


@pytest.mark.asyncio
async def test_the_replaced_one_is_no_longer_the_chosen_one() -> None:
    network = FakeSource({"ends": LOST}, {})
    supervisor = supervised(network)
    await works_on(supervisor, network, 2)
    verdicts = {candidate.url: candidate.verdict for candidate in supervisor.candidates}
    assert verdicts == {"a": "set_aside", "b": "chosen", "c": "available"}


@pytest.mark.asyncio
async def test_nobody_is_chosen_before_a_job_goes_there() -> None:
    network = FakeSource({})
    supervisor = supervised(network)
    assert {candidate.verdict for candidate in supervisor.candidates} == {"available"}
    await works_on(supervisor, network, 1)
    assert [candidate.verdict for candidate in supervisor.candidates] == ["chosen", "available", "available"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("shows", "outcome"),
    [(True, "it had the stream until the end"), (False, "no picture came from it until the end")],
)
async def test_the_chosen_one_says_at_the_end_whether_it_showed_a_picture(shows: bool, outcome: str) -> None:
    fails = asyncio.Event()
    network = FakeSource({"until": fails, "ends": Ended(EndReason.SIGNER_REFUSED, "HTTP 403")})
    network.script[0]["shows"] = shows
    supervisor = supervised(network)
    running = asyncio.get_running_loop().create_task(end_of(supervisor))
    await eventually(lambda: network.jobs and network.jobs[0].started, every=0.001)
    fails.set()
    await running
    (chosen,) = (candidate for candidate in supervisor.candidates if candidate.verdict == "chosen")
    assert chosen.detail == f"{outcome}: HTTP 403"


def test_no_end_is_without_a_reason() -> None:
    assert Ended(EndReason.ORCHESTRATOR_LOST, "").detail


# payments without a picture

VAIN = {"shows": False, "paid": True, "ends": LOST}


def paid_network(*script: dict[str, Any], urls: str = "abcdef") -> FakeSource:
    network = FakeSource(*script, urls=urls)
    network.first_payment = Fraction(60)
    return network


@pytest.mark.asyncio
async def test_a_job_is_live_when_its_first_picture_is_back() -> None:
    network, publisher = paid_network({"shows": False}), Publisher()
    supervisor = supervised(network, publisher)
    running = asyncio.get_running_loop().create_task(supervisor.run())
    await eventually(lambda: network.jobs and network.jobs[0].started, every=0.001)
    network.jobs[0].host.on_output(OpusPacket(b"sound", 0))
    assert not supervisor.live
    await supervisor.update({"effect": "grey"})
    assert network.jobs[0].updates == [{"effect": "grey"}], "it takes updates before"
    network.jobs[0].host.on_output(KEY)
    assert supervisor.live
    assert publisher.shown == [KEY]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await supervisor.close(DELETED)


@pytest.mark.asyncio
async def test_as_many_payments_without_a_picture_as_are_allowed_end_the_stream() -> None:
    network = paid_network(*[VAIN] * 5)
    ended = await end_of(supervised(network, max_paid_starts=2))
    assert ended.reason is EndReason.NO_ORCHESTRATOR
    assert "2 first payments in a row brought no picture" in ended.detail
    assert network.asked == "ab"


@pytest.mark.asyncio
async def test_a_picture_sets_the_count_of_payments_without_one_back() -> None:
    shows = {"paid": True, "ends": LOST}
    network = paid_network(VAIN, shows, VAIN, {"paid": True})
    await works_on(supervised(network, max_paid_starts=2), network, 4)


@pytest.mark.asyncio
async def test_a_live_stream_pauses_between_payments_without_a_picture() -> None:
    dies = {"starts": False, "paid": True, "ends": LOST}
    network = paid_network({"paid": True, "ends": LOST}, dies, dies, {"paid": True})
    began = time.monotonic()
    await works_on(supervised(network), network, 4)
    assert network.asked == "abcd"
    assert time.monotonic() - began >= 3 * HASTY.first_pause, "one pause, and then twice as long"
    network = paid_network(dies, dies, {"paid": True})
    supervisor = supervised(network, pause=60)
    await works_on(supervisor, network, 3)


@pytest.mark.asyncio
async def test_a_payment_that_found_no_room_is_kept_and_makes_no_pause() -> None:
    full = {"starts": False, "paid": True, "ends": NoRoom(EndReason.ORCHESTRATOR_LOST, "HTTP 503")}
    network = paid_network({"paid": True, "ends": LOST}, full, {"paid": True})
    await works_on(supervised(network, pause=60), network, 3)


@pytest.mark.asyncio
async def test_who_needs_no_payment_is_tried_during_a_pause() -> None:
    network = paid_network({"paid": True, "ends": LOST}, {"starts": False, "paid": True, "ends": LOST}, {})
    network.free = {"c"}
    await works_on(supervised(network, pause=60), network, 3)


@pytest.mark.asyncio
async def test_starts_that_signed_nothing_are_no_payments() -> None:
    unpaid = {"starts": False, "ends": LOST}
    network = paid_network(*[unpaid] * 4, {"paid": True})
    await works_on(supervised(network, max_paid_starts=1), network, 5)


@pytest.mark.asyncio
async def test_who_showed_nothing_is_to_blame_where_another_shows_the_same_stream() -> None:
    network = paid_network(VAIN, VAIN, {})
    await works_on(supervised(network), network, 3)
    assert network.suspended.keys() == {"a", "b"}


@pytest.mark.asyncio
async def test_where_two_show_nothing_of_a_stream_nobody_is_to_blame_and_its_end_says_so() -> None:
    network = paid_network(VAIN, VAIN, urls="ab")
    ended = await end_of(supervised(network))
    assert ended.reason is EndReason.NO_ORCHESTRATOR
    assert "no worker could show this stream" in ended.detail
    assert network.suspended == {}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("script", "blamed"),
    [
        ([VAIN], "a"),
        ([{"starts": False, "paid": True, "ends": LOST}] * 2, "ab"),
        ([{"paid": True, "ends": LOST}, VAIN, VAIN], "abc"),
    ],
    ids=["only one failed", "no job had the pictures", "it was shown before"],
)
async def test_blame_stays_where_the_stream_is_not_known_to_be_the_cause(
    script: list[dict[str, Any]], blamed: str
) -> None:
    network = paid_network(*script, urls="abc"[: len(script)])
    await end_of(supervised(network))
    assert network.suspended.keys() == set(blamed)


# room


@pytest.mark.asyncio
async def test_the_first_job_waits_for_room_where_another_stream_gives_it_back() -> None:
    network = FakeSource({})
    supervisor = supervised(network, await_room=True)
    network.full = {"a", "b", "c"}
    asyncio.get_running_loop().call_later(0.02, network.full.clear)
    await works_on(supervisor, network, 1)
    assert network.asked == "a"


@pytest.mark.asyncio
async def test_a_stream_that_finds_its_candidate_full_waits_for_the_room_of_a_job_that_is_held() -> None:
    network = FakeSource({"starts": False, "ends": NoRoom(EndReason.ORCHESTRATOR_LOST, "full")}, {}, urls="a")

    def make_room(candidates: Sequence[Candidate]) -> bool:
        network.suspended.clear()
        return True

    await works_on(supervised(network, make_room=make_room), network, jobs=2)


@pytest.mark.asyncio
@pytest.mark.parametrize("await_room", [False, True])
async def test_a_stream_ends_where_no_room_comes(await_room: bool) -> None:
    network = FakeSource()
    network.full = {"a", "b", "c"}
    assert (await end_of(supervised(network, await_room=await_room))).reason is EndReason.NO_ORCHESTRATOR


@pytest.mark.asyncio
async def test_a_stream_uses_its_candidates_until_their_jobs_are_closed() -> None:
    closes = asyncio.Event()
    network = FakeSource({"ends": LOST, "closes": closes}, {})
    supervisor = supervised(network)
    async with at_work(supervisor, network, 2):
        assert supervisor.keys_in_use() == {"a", "b"}
        closes.set()
    assert supervisor.keys_in_use() == set()


# parameters


@pytest.mark.asyncio
async def test_an_update_during_a_start_is_among_the_parameters_that_the_job_begins_with() -> None:
    up = asyncio.Event()
    network, publisher = FakeSource({"up": up}), Publisher()
    publisher.params = {"effect": "grey", "size": 1}
    supervisor = supervised(network, publisher)
    running = asyncio.get_running_loop().create_task(works_on(supervisor, network, 1))
    await eventually(lambda: network.jobs, every=0)
    assert await supervisor.update({"effect": "mirror"}) == {}
    up.set()
    await running
    assert network.jobs[0].updates == []
    assert list(network.jobs[0].started_with.items()) == [("size", 1), ("effect", "mirror")]


@pytest.mark.asyncio
async def test_what_a_worker_refused_is_no_parameter_of_the_next_job() -> None:
    fails = asyncio.Event()
    network = FakeSource({"refuses": True, "until": fails, "ends": LOST}, {})
    supervisor = supervised(network)
    running = asyncio.get_running_loop().create_task(works_on(supervisor, network, 2))
    await eventually(lambda: supervisor.live, every=0.001)
    with pytest.raises(UpdateRefused):
        await supervisor.update({"effect": "mirror"})
    fails.set()
    await running
    assert network.jobs[1].started_with == {}


@pytest.mark.asyncio
async def test_an_update_after_the_end_changes_nothing() -> None:
    network, publisher = FakeSource({"ends": LOST}, urls="a"), Publisher()
    supervisor = supervised(network, publisher)
    await end_of(supervisor)
    assert await supervisor.update({"effect": "mirror"}) == {}
    assert publisher.params == {}


@pytest.mark.asyncio
async def test_a_move_that_is_asked_for_is_no_fault_and_counts_for_no_limit() -> None:
    network, publisher = FakeSource({}, {}, {}, {}, {}, {}, urls="ab"), Publisher()
    supervisor = supervised(network, publisher)

    async def moves() -> None:
        for jobs in range(1, 6):
            await eventually(lambda n=jobs: len(network.jobs) == n and supervisor.live, what="the next job")
            assert supervisor.move("the operator asked")
        await eventually(lambda: len(network.jobs) == 6 and supervisor.live, what="the last job")

    async with asyncio.TaskGroup() as group:
        running = group.create_task(supervisor.run())
        await moves()
        running.cancel()
    await supervisor.close(DELETED)
    assert network.asked == "ababab"
    assert network.suspended == {}
    assert {job.closed for job in network.jobs[:-1]} == {EndReason.TERMINATED}


@pytest.mark.asyncio
async def test_where_nobody_else_can_take_the_stream_it_stays() -> None:
    network = FakeSource({}, urls="a")
    supervisor = supervised(network)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(supervisor.run())
        await eventually(lambda: supervisor.live, what="the job")
        assert not supervisor.move("the operator asked")
        running.cancel()
    await supervisor.close(DELETED)
    assert network.asked == "a"
