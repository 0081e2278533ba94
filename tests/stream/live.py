"""A real registry over fake sources, with publishers that send real pictures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiortc import RTCPeerConnection

from gateway.eth_rate import EthRate
from gateway.stream.admission import Admission
from gateway.stream.claims import NameClaims
from gateway.stream.quotas import Claim, SharedCounts
from gateway.stream.registry import LeftStreams, StreamRegistry
from gateway.stream.seam import PublishRequest
from gateway.stream.sources import JobSources
from gateway.stream.stream import State, Stream
from gateway.stream.swap import SwapPolicy
from gateway.telemetry.metrics import Metrics
from gateway.webrtc.config import WebRtcConfig
from harness.waiting import eventually
from tests.stream.jobs import HASTY
from tests.webrtc.loopback import CodedTrack, aiortc_client, coded_pictures, offer_of, take_answer

REQUEST = PublishRequest("cam", "id", "1", "m", params={"prompt": "x" * 10_000})


def registry_on(
    sources: JobSources,
    admission: Admission | None = None,
    *,
    resume_timeout: float = 0.0,
    names: NameClaims | None = None,
    left_streams: LeftStreams | None = None,
    counts: SharedCounts | None = None,
    rate: EthRate | None = None,
) -> StreamRegistry:
    return StreamRegistry(
        sources,
        Metrics(),
        webrtc=WebRtcConfig(),
        ingest_timeout=10,
        resume_timeout=resume_timeout,
        swaps=SwapPolicy(timing=HASTY),
        admission=admission or Admission(),
        names=names,
        left_streams=left_streams,
        counts=counts,
        rate=rate,
    )


@asynccontextmanager
async def live_stream(registry: StreamRegistry, request: PublishRequest = REQUEST) -> AsyncIterator[Stream]:
    """A stream that is live and whose publisher sends."""
    async with live_publisher(registry, request) as (stream, _):
        yield stream


@asynccontextmanager
async def live_publisher(
    registry: StreamRegistry,
    request: PublishRequest = REQUEST,
    *,
    claims: Sequence[Claim] = (),
    live: bool = True,
) -> AsyncIterator[tuple[Stream, RTCPeerConnection]]:
    """A publisher that sends and its stream, once that is live unless it is not to be."""
    client = aiortc_client()
    client.addTrack(CodedTrack(coded_pictures(15)))
    try:
        stream = await registry.publish(request, await offer_of(client), claims)
        assert stream.publishers.peer is not None
        await take_answer(client, stream.publishers.peer.answer)
        if live:
            await eventually(lambda: stream.state is State.LIVE, what="the stream")
        yield stream, client
    finally:
        await client.close()


async def offer() -> str:
    """The offer of a publisher that never connects."""
    client = aiortc_client()
    client.addTrack(CodedTrack(coded_pictures(1)))
    try:
        return await offer_of(client)
    finally:
        await client.close()
