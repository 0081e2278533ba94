from __future__ import annotations

import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from gateway.candidates.verdict import Verdict
from gateway.media.fanout import Fanout
from gateway.reason import EndReason
from gateway.stream.admission import Admission
from gateway.stream.ended import KEEP_ENDED, MAX_ENDED, EndedStream, EndedStreams
from gateway.stream.registry import NoOrchestrator, Registry
from gateway.stream.seam import PublishRequest
from gateway.stream.status import stream_status
from gateway.stream.stream import State, Stream
from gateway.stream.swap import SwapPolicy
from gateway.telemetry.metrics import Metrics
from gateway.webrtc.config import WebRtcConfig
from harness.waiting import eventually
from tests.stream.jobs import FakeSource, Somebody
from tests.webrtc.loopback import CodedTrack, aiortc_client, coded_pictures, offer_of, take_answer

REQUEST = PublishRequest("cam", "id", "1", "m", params={"prompt": "x" * 10_000})


@asynccontextmanager
async def live_stream(registry: Registry, request: PublishRequest = REQUEST) -> AsyncIterator[Stream]:
    client = aiortc_client()
    client.addTrack(CodedTrack(coded_pictures(15)))
    try:
        stream = await registry.publish(request, await offer_of(client))
        assert stream.publisher is not None
        await take_answer(client, stream.publisher.answer)
        await eventually(lambda: stream.state is State.LIVE, what="the stream")
        yield stream
    finally:
        await client.close()


def registry_on(network: FakeSource) -> Registry:
    return Registry(
        network,
        Metrics(),
        webrtc=WebRtcConfig(),
        ingest_timeout=10,
        swaps=SwapPolicy(3, 30),
        admission=Admission(),
    )


@pytest.mark.asyncio
async def test_of_a_stream_that_ended_nothing_is_kept_but_its_last_status(without_collector: None) -> None:
    network = FakeSource({})
    registry = registry_on(network)
    async with live_stream(registry) as stream:
        stream.end(EndReason.DELETED, "enough")
        await stream.finished.wait()
        last = stream_status(stream, viewers=2, whep_url="/whep")
    gone = weakref.ref(stream)
    del stream
    network.jobs.clear()
    network.ingests.clear()
    await eventually(lambda: gone() is None, what="the stream's last task to end")
    for name_or_id in ("cam", "id"):
        kept = registry.find_with_ended(name_or_id)
        assert isinstance(kept, EndedStream)
        assert kept.status(viewers=2, whep_url="/whep") == last
        assert last["gateway_status"]["ended"]["detail"] == "enough"
        assert kept.request == replace(REQUEST, params={})


class OneJob(FakeSource):
    """Somebody with room for one job."""

    def candidates(self, request: PublishRequest) -> list[Somebody]:
        full = any(job.closed is None for job in self.jobs)
        return [Somebody("a", usable=not full, verdict=Verdict.NO_CAPACITY if full else Verdict.AVAILABLE)]


@pytest.mark.asyncio
async def test_whoever_follows_one_that_ends_gets_its_room_and_nobody_before() -> None:
    network = OneJob({}, {})
    registry = registry_on(network)
    async with live_stream(registry) as stream:
        with pytest.raises(NoOrchestrator):
            async with live_stream(registry, replace(REQUEST, name="other", stream_id="other")):
                pass
        stream.end(EndReason.DELETED, "enough")
        async with live_stream(registry) as following:
            assert stream.finished.is_set()
            following.end(EndReason.DELETED, "enough")
            await following.finished.wait()
    assert network.asked == "aa"


@pytest.mark.asyncio
async def test_ended_streams_are_kept_for_a_minute_and_no_more_of_them_than_the_limit() -> None:
    now = 0.0
    ended = EndedStreams(lambda: now)

    def end(name: str, stream_id: str) -> None:
        request = PublishRequest(name, stream_id, "1", "m")
        relays: Any = FakeSource()
        ended.add(Stream(request, relays, [], Fanout(), ingest_timeout=1, swaps=SwapPolicy(3, 30)))

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
