"""The status of a stream as its JSON over HTTP, from a real registry with real publishers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.http.forwarding import Forwarding
from gateway.http.server import Server, application
from gateway.http.sessions import Links
from gateway.http.streams import StreamRoutes
from gateway.reason import EndReason
from gateway.stream.registry import StreamRegistry
from gateway.webrtc.negotiation import Negotiation
from gateway.webrtc.publisher import Publisher
from harness.waiting import eventually
from tests.stream.jobs import FakeSource, only
from tests.stream.live import REQUEST, live_publisher, registry_on
from tests.webrtc.fed import rtp, simulcast

OFFERS = Path(__file__).parents[1] / "data" / "offers"
CAMERA = (OFFERS / "chromium-camera-sendonly.sdp").read_text()


class Told:
    """A registry whose streams' status is asked over HTTP."""

    def __init__(self, registry: StreamRegistry, http: aiohttp.ClientSession, url: str) -> None:
        self.registry = registry
        self._http = http
        self._url = url

    async def status(self) -> dict[str, Any]:
        async with self._http.get(f"{self._url}live/video-to-video/cam/status") as response:
            assert response.status == 200
            status: dict[str, Any] = (await response.json())["gateway_status"]
            return status

    async def publisher(self, offer: str) -> Publisher:
        """Admit a publisher that never connects: a test gives it its packets."""
        stream = await self.registry.publish(REQUEST, offer, ())
        assert stream.publishers.peer is not None
        return stream.publishers.peer


@asynccontextmanager
async def told(source: FakeSource) -> AsyncIterator[Told]:
    registry = registry_on(only(source))
    server = Server(
        application([StreamRoutes(registry, Links(Forwarding())).routes()]), ("127.0.0.1", 0), "httpAddr"
    )
    async with aiohttp.ClientSession() as http:
        try:
            yield Told(registry, http, await server.start())
        finally:
            await server.stop()
            await registry.close(EndReason.DRAINED, "the test is over")


@pytest.mark.asyncio
async def test_why_nothing_can_be_shown_is_the_error_before_and_after_the_silence_is_noticed() -> None:
    source = FakeSource({})
    async with told(source) as gateway, live_publisher(gateway.registry):

        async def error() -> str:
            said = (await gateway.status())["error"]
            return "" if said is None else str(said["error_message"])

        async def is_silent() -> bool:
            return "no picture has come back" in await error()

        assert await error() == ""
        source.jobs[0].problem = why = "its worker answers HEVC, and H.264 alone is shown"
        assert await error() == why
        source.jobs[0].problem = ""
        await eventually(is_silent, what="the silence")
        source.jobs[0].problem = why
        assert await error() == why


@pytest.mark.asyncio
async def test_what_an_offer_asked_for_and_did_not_get_is_told() -> None:
    other = CAMERA.replace("opus/48000/2", "speex/48000/2")
    async with told(FakeSource({})) as gateway:
        await gateway.publisher(other)
        ingest = (await gateway.status())["ingest"]
    (rejected,) = ingest["rejected"]
    assert rejected["kind"] == "audio"
    assert "opus/48000/2" in rejected["reason"]
    assert ingest["audio"] is None


@pytest.mark.asyncio
async def test_the_simulcast_layer_that_is_shown_is_told() -> None:
    offer = simulcast(CAMERA, "0", "1")
    kind = Negotiation.of(offer, publishing=True).video.codec.payload_type
    async with told(FakeSource({})) as gateway:
        publisher = await gateway.publisher(offer)
        assert (await gateway.status())["ingest"]["layer"] is None
        publisher.on_rtp(rtp(kind, 1, 0, 7, b"\x09\xf0", rid="1"))
        ingest = (await gateway.status())["ingest"]
    assert (ingest["layer"], ingest["rejected"]) == ("1", [])


@pytest.mark.asyncio
async def test_lost_packets_of_sound_are_told() -> None:
    audio = Negotiation.of(CAMERA, publishing=True).audio
    assert audio is not None
    kind = audio.codec.payload_type
    async with told(FakeSource({})) as gateway:
        publisher = await gateway.publisher(CAMERA)
        sent = 0

        def send(numbers: Iterator[int]) -> None:
            nonlocal sent
            number = next(numbers)
            publisher.on_rtp(rtp(kind, number, number * 960, 9, b"\x78\0"))
            sent += 1

        numbers = count()
        send(numbers)
        assert (await gateway.status())["ingest"]["audio"]["packets_lost"] == 0
        next(numbers), next(numbers)

        async def is_told() -> bool:
            send(numbers)  # what is missing is given up when another comes
            return bool((await gateway.status())["ingest"]["audio"]["packets_lost"])

        await eventually(is_told, what="the loss")
        told_of = (await gateway.status())["ingest"]["audio"]
    assert told_of == {
        "codec": "opus",
        "packets": sent,
        "packets_lost": 2,
        "packets_dropped": 0,
        "live": True,
    }
