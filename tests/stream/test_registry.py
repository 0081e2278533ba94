"""Who may publish, whom that ends, and what is kept of a stream that ended."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from fractions import Fraction

import pytest

from gateway.media.fanout import Fanout
from gateway.payments.errors import LedgerUnavailable
from gateway.payments.spending import SpendLimitReached, StreamLimits
from gateway.reason import EndReason
from gateway.stream.admission import Admission, NotAdmitted
from gateway.stream.claims import NameTaken
from gateway.stream.ended import KEEP_ENDED, MAX_ENDED, EndedStream, EndedStreams
from gateway.stream.paid_starts import NobodyShows, TooManyStarts
from gateway.stream.quotas import Claim, LimitReached, Quotas
from gateway.stream.registry import NoOrchestrator, StreamRegistry
from gateway.stream.seam import Candidate, PublishRequest
from gateway.stream.status import stream_status
from gateway.stream.stream import TAKEOVER_AFTER, Stream
from gateway.stream.swap import SwapPolicy
from gateway.webrtc.errors import OfferRefused
from harness.waiting import eventually
from tests.stream.jobs import LOST, FakeSource, only
from tests.stream.live import REQUEST, live_publisher, live_stream, offer, registry_on

OTHER = replace(REQUEST, name="other", stream_id="other")


@pytest.mark.asyncio
async def test_of_a_stream_that_ended_nothing_is_kept_but_its_last_status(without_collector: None) -> None:
    network = FakeSource({})
    registry = registry_on(only(network))
    async with live_stream(registry) as stream:
        stream.end(EndReason.DELETED, "enough")
        await stream.finished.wait()
        last = stream_status(stream, viewers=2, whep_url="/whep")
    gone = weakref.ref(stream)
    del stream
    network.jobs.clear()
    await eventually(lambda: gone() is None, what="the stream's last task to end")
    for name_or_id in ("cam", "id"):
        kept = registry.find_with_ended(name_or_id)
        assert isinstance(kept, EndedStream)
        assert kept.status(viewers=2, whep_url="/whep") == last
        assert last["gateway_status"]["ended"]["detail"] == "enough"
        assert kept.request == replace(REQUEST, params={})


def streams_in_memory() -> int:
    return sum(isinstance(one, Stream) for one in gc.get_objects())


@pytest.mark.asyncio
async def test_of_a_publisher_that_is_refused_nothing_is_kept(without_collector: None) -> None:
    admission = Admission()
    registry = registry_on(only(FakeSource()), admission)
    before = streams_in_memory()
    good = await offer()
    for sdp in ("v=1", good):
        if sdp == good:  # it drains while the offer is answered
            asyncio.get_running_loop().call_soon(setattr, admission, "draining", True)
        with pytest.raises((OfferRefused, NotAdmitted)):
            await registry.publish(REQUEST, sdp)
    assert len(registry) == len(registry.running()) == 0
    await eventually(lambda: streams_in_memory() == before, what="the streams to be freed")


class OneJob(FakeSource):
    """Everybody has room for one job, but for those that are always full."""

    always_full: frozenset[str] = frozenset()

    def candidates(self, request: PublishRequest) -> list[Candidate]:
        self.full = {job.url for job in self.jobs if job.closed is None} | self.always_full
        return super().candidates(request)


@pytest.mark.asyncio
async def test_whoever_follows_one_that_ends_gets_its_room_and_nobody_before() -> None:
    network = OneJob({}, {}, urls="a")
    registry = registry_on(only(network))
    async with live_stream(registry) as stream:
        with pytest.raises(NoOrchestrator):
            async with live_stream(registry, OTHER):
                pass
        stream.end(EndReason.DELETED, "enough")
        async with live_stream(registry) as following:
            assert stream.finished.is_set()
            following.end(EndReason.DELETED, "enough")
            await following.finished.wait()
    assert network.asked == "aa"


ADDRESS = [Claim("-maxStreamsPerAddress", 1, "here")]


@asynccontextmanager
async def silent(registry: StreamRegistry, claims: Sequence[Claim] = ()) -> AsyncIterator[Stream]:
    """A live stream whose publisher has been silent for so long that it may be replaced."""
    async with live_publisher(registry, claims=claims) as (stream, client):
        client.getSenders()[0].replaceTrack(None)
        await eventually(lambda: stream.publishers.session.silent_for > TAKEOVER_AFTER, what="its silence")
        yield stream
        await registry.close(EndReason.DRAINED, "the test is over")


@pytest.mark.asyncio
async def test_no_refusal_ends_the_publisher_that_would_be_replaced() -> None:
    source, admission = OneJob({}, urls="abc"), Admission()
    source.always_full = frozenset("c")
    registry = registry_on(only(source), admission)
    async with silent(registry) as former:
        source.first_payment = Fraction(1)
        limited = replace(REQUEST, limits=StreamLimits(paid_starts=1))
        await registry.publish(replace(limited, name="other", stream_id="other"), await offer(), ADDRESS)
        running, output = registry.running(), registry.audience.output("cam")

        async def refused(
            kind: type[Exception],
            request: PublishRequest = REQUEST,
            sdp: str = "",
            claims: Sequence[Claim] = (),
        ) -> None:
            with pytest.raises(kind):
                await registry.publish(request, sdp or await offer(), claims)
            assert registry.find("cam") is former
            assert former.supervisor.live
            assert not former.ending
            assert registry.running() == running
            assert registry.audience.output("cam") is output

        await refused(OfferRefused, sdp="v=1")
        await refused(OfferRefused, sdp=(await offer()).replace("H264", "VP8"))
        await refused(LimitReached, claims=ADDRESS)
        await refused(TooManyStarts, limited)
        await refused(NameTaken, replace(REQUEST, stream_id="other"))
        await refused(NoOrchestrator, replace(REQUEST, orchestrator="c"))
        await refused(NoOrchestrator, replace(REQUEST, orchestrator="unknown"))
        for refusal in (SpendLimitReached("the last hour"), LedgerUnavailable("the disk is full")):
            source.refusal = refusal
            await refused(type(refusal))
        source.refusal = None
        admission.draining = True
        await refused(NotAdmitted)


@pytest.mark.asyncio
async def test_a_publisher_for_whom_nothing_was_paid_may_start_again() -> None:
    source = FakeSource()
    source.first_payment = Fraction(1)
    registry = registry_on(only(source))
    for number in range(3):
        limited = replace(REQUEST, request_id=str(number), limits=StreamLimits(paid_starts=1))
        stream = await registry.publish(limited, await offer())
        stream.end(EndReason.DELETED, "it never connected")
        await stream.finished.wait()
        await eventually(lambda: not registry.running(), what="the stream's end")


@pytest.mark.asyncio
async def test_a_stream_that_no_worker_can_show_counts_against_its_publisher() -> None:
    source = FakeSource(*[{"shows": False, "paid": True, "ends": LOST}] * 2, {}, urls="ab")
    source.first_payment = Fraction(1)
    registry = registry_on(only(source))
    request = replace(REQUEST, publisher="ann")
    async with live_publisher(registry, request, live=False) as (stream, _):
        await stream.finished.wait()
    await eventually(lambda: not registry.running(), what="the stream's end")
    assert source.suspended == {}
    with pytest.raises(NobodyShows) as refused:
        await registry.publish(request, await offer())
    assert refused.value.retry_after == 30
    await registry.publish(replace(request, publisher="bob"), await offer())
    await registry.close(EndReason.DELETED, "enough")


@pytest.mark.asyncio
async def test_a_publisher_is_admitted_where_a_candidate_has_a_turn_for_it_later() -> None:
    source = FakeSource(urls="a")
    source.untrusted.add("a")
    registry = registry_on(only(source))
    stream = await registry.publish(REQUEST, await offer())
    stream.end(EndReason.DELETED, "it never connected")
    await eventually(lambda: not registry.running(), what="the stream's end")
    source.refusal = SpendLimitReached("the last hour")
    with pytest.raises(SpendLimitReached):
        await registry.publish(REQUEST, await offer())


@pytest.mark.asyncio
async def test_a_silent_publisher_is_replaced_and_its_room_and_quota_are_the_next_ones() -> None:
    source = OneJob({}, {}, urls="a")
    registry = registry_on(only(source))
    async with silent(registry, ADDRESS) as former, live_publisher(registry, claims=ADDRESS) as (stream, _):
        await former.finished.wait()
        assert former.ended is not None
        assert former.ended[0].detail == "another publisher took the name over"
        assert registry.find("cam") is stream
        assert source.asked == "aa"


@pytest.mark.asyncio
async def test_of_two_who_replace_a_publisher_at_once_one_is_refused() -> None:
    source = OneJob({}, urls="a")
    registry = registry_on(only(source))
    async with silent(registry):
        offers = [await offer(), await offer()]
        publishes = [registry.publish(REQUEST, sdp) for sdp in offers]
        outcomes = await asyncio.gather(*publishes, return_exceptions=True)
        assert sorted(type(one).__name__ for one in outcomes) == ["NameTaken", "Stream"]
        assert len(registry) == 1


@pytest.mark.asyncio
async def test_the_room_of_a_publisher_that_left_by_itself_is_waited_for_too() -> None:
    source, closes = OneJob({}, urls="a"), asyncio.Event()
    source.script[0]["closes"] = closes
    registry = registry_on(only(source))
    async with live_publisher(registry) as (stream, client):
        await client.close()
        await eventually(lambda: stream.ending, what="the stream's end")
        waiting = asyncio.get_running_loop().create_task(registry.publish(OTHER, await offer()))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        closes.set()
        assert (await waiting) is registry.find("other")
        await registry.close(EndReason.DRAINED, "the test is over")


@pytest.mark.asyncio
async def test_who_waited_for_room_is_refused_where_the_gateway_drains_meanwhile() -> None:
    source, admission, closes = OneJob({}, urls="a"), Admission(), asyncio.Event()
    source.script[0]["closes"] = closes
    registry = registry_on(only(source), admission)
    async with live_stream(registry) as stream:
        stream.end(EndReason.DELETED, "enough")
        waiting = asyncio.get_running_loop().create_task(registry.publish(OTHER, await offer()))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        admission.draining = True
        closes.set()
        with pytest.raises(NotAdmitted):
            await waiting


@pytest.mark.asyncio
async def test_ended_streams_are_kept_for_a_minute_and_no_more_of_them_than_the_limit() -> None:
    now = 0.0
    ended = EndedStreams(lambda: now)

    def end(name: str, stream_id: str) -> None:
        request = PublishRequest(name, stream_id, "1", "m")
        sources = only(FakeSource())
        ended.add(
            Stream(
                request,
                sources,
                [],
                Fanout(),
                ingest_timeout=1,
                swaps=SwapPolicy(),
                reservation=Quotas().take([]),
            )
        )

    end("cam", "a")
    now = 1.0
    end("cam", "b")
    found = ended.find("cam")
    assert found is not None
    assert found.request.stream_id == "b"
    now = KEEP_ENDED + 0.5
    assert ended.find("a") is None
    assert ended.find("b") is found
    now = KEEP_ENDED + 1
    assert ended.find("b") is None
    for number in range(MAX_ENDED + 1):
        end(f"cam{number}", f"{number}")
    assert ended.find("0") is None
    assert ended.find("1") is not None
