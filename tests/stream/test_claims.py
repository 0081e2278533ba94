"""Each name that is claimed for a stream is given back once, whatever becomes of its publisher."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

import pytest

from gateway.reason import EndReason
from gateway.stream.admission import NotAdmitted
from gateway.stream.claims import NameTaken
from gateway.stream.seam import FormerStream
from gateway.stream.stream import State
from gateway.webrtc.errors import OfferRefused
from harness.waiting import eventually
from tests.stream.jobs import FakeSource, only
from tests.stream.live import REQUEST, live_publisher, live_stream, offer, registry_on
from tests.stream.test_former_streams import FormerRun


class CountedNames:
    """How often each name is held. `refusal` is raised where a name is asked for."""

    def __init__(self) -> None:
        self.held: Counter[str] = Counter()
        self.refusal: Exception | None = None
        self.inherits = False
        self.left: list[bool] = []

    async def claim(self, names: Collection[str]) -> bool:
        if self.refusal is not None:
            raise self.refusal
        self.held.update(set(names))
        return self.inherits

    def restore(self, names: Collection[str]) -> None:
        self.held.update(set(names))

    def remember(self, names: Collection[str], seconds: float) -> None:
        self.remembered = [*names]

    def release(self, names: Collection[str], *, left: bool = False) -> None:
        self.left.append(left)
        self.held.subtract(set(names))
        assert min(self.held.values()) >= 0

    @property
    def now(self) -> dict[str, int]:
        return {name: count for name, count in self.held.items() if count}


@pytest.mark.asyncio
async def test_a_streams_name_and_id_are_held_until_its_end() -> None:
    names = CountedNames()
    registry = registry_on(only(FakeSource({})), names=names)
    async with live_stream(registry) as stream:
        assert names.now == {"cam": 1, "id": 1}
        stream.end(EndReason.DELETED, "enough")
        await stream.finished.wait()
        await eventually(lambda: names.now == {})


@pytest.mark.asyncio
async def test_of_a_publisher_that_is_refused_no_name_is_held() -> None:
    names = CountedNames()
    registry = registry_on(only(FakeSource()), names=names)
    with pytest.raises(OfferRefused):
        await registry.publish(REQUEST, "v=1")
    assert names.now == {}


@pytest.mark.asyncio
@pytest.mark.parametrize("refusal", [NameTaken("by another node"), NotAdmitted("cluster_away", "who knows")])
async def test_whose_name_another_node_has_is_refused_before_anything_else(refusal: Exception) -> None:
    names, source = CountedNames(), FakeSource()
    registry = registry_on(only(source), names=names)
    names.refusal = refusal
    with pytest.raises(type(refusal)):
        await registry.publish(REQUEST, await offer())
    assert (len(registry), names.now, source.asked) == (0, {}, "")


@pytest.mark.asyncio
async def test_a_publisher_that_comes_back_holds_no_name_twice() -> None:
    names = CountedNames()
    registry = registry_on(only(FakeSource({"credit": 50.0})), resume_timeout=30, names=names)
    async with live_publisher(registry) as (stream, _):
        stream.publishers.leave(EndReason.DELETED, "it comes back")
        await eventually(lambda: stream.state is State.WAITING_FOR_PUBLISHER)
    async with live_publisher(registry, replace(REQUEST, request_id="2")) as (same, _):
        assert same is stream
        assert names.now == {"cam": 1, "id": 1}
        stream.end(EndReason.TERMINATED, "enough")
        await stream.finished.wait()
    await eventually(lambda: names.now == {})


@pytest.mark.asyncio
async def test_a_stream_whose_name_another_node_took_ends_and_says_so() -> None:
    registry = registry_on(only(FakeSource({})), names=CountedNames())
    async with live_stream(registry) as stream:
        registry.lose("unknown")
        registry.lose("id")
        await stream.finished.wait()
        assert stream.ended is not None
        assert stream.ended[0].reason is EndReason.TAKEN_OVER
        assert "another node" in stream.ended[0].detail


@pytest.mark.asyncio
async def test_the_publisher_of_a_node_that_is_gone_goes_on_with_its_job_on_another_one() -> None:
    names, run, asked = CountedNames(), FormerRun({"shows": True}), []

    async def left_streams(name: str) -> list[FormerStream]:
        asked.append(name)
        return [run.stream(seconds=30.0)]

    registry = registry_on(only(run.network), resume_timeout=30, names=names, left_streams=left_streams)
    names.inherits = True
    async with live_publisher(registry, replace(REQUEST, request_id="2"), live=False) as (stream, _):
        assert (asked, stream.request.request_id) == (["cam"], "1")
        await eventually(lambda: stream.publishers.resumed == 1, what="its first key frame")
        assert (len(run.jobs), run.network.asked) == (1, "")
        assert names.now == {"cam": 1, "id": 1}
        stream.end(EndReason.DRAINED, "this node stops", leave=True)
        await stream.finished.wait()
    await eventually(lambda: names.now == {})
    assert names.left == [False, True]  # the claim of the publisher, and that of the stream


@pytest.mark.asyncio
async def test_nothing_is_asked_for_that_no_other_node_can_have_left() -> None:
    async def left_streams(name: str) -> list[FormerStream]:
        raise AssertionError("asked for")

    registry = registry_on(only(FakeSource({})), names=CountedNames(), left_streams=left_streams)
    async with live_stream(registry) as stream:
        stream.end(EndReason.DELETED, "enough")
        await stream.finished.wait()
