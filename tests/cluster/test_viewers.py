"""Viewers with real peers on a node that does not publish what they watch."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiortc import MediaStreamTrack

from gateway.cluster.relay import MediaRelay
from gateway.stream.admission import Admission
from gateway.stream.audience import Audience
from gateway.stream.quotas import Quotas
from gateway.webrtc.config import WebRtcConfig
from harness.nats import NatsServer
from harness.waiting import eventually, within
from tests.cluster.media_nodes import GOP, media_node, picture, pictures, pushed_until
from tests.cluster.nodes import PATH, TestNode, running_nodes
from tests.e2e.sessions import SDP
from tests.stream.live import live_stream
from tests.webrtc.loopback import aiortc_client, offer_of, take_answer

pytestmark = pytest.mark.asyncio


async def watch(node: TestNode, name: str, stack: AsyncExitStack) -> str:
    """A viewer that is connected; gives its Location."""
    client = aiortc_client()
    stack.push_async_callback(client.close)
    client.addTransceiver("video", direction="recvonly")
    response = await node.ask("POST", f"{PATH}{name}/whep", data=await offer_of(client), headers=SDP)
    assert response.status == 201, await response.text()
    await take_answer(client, await response.text())
    await eventually(lambda: client.connectionState == "connected", what="the viewer's connection")
    return response.headers["Location"]


async def test_the_node_that_is_asked_serves_a_viewer_and_any_ends_it(
    nats: NatsServer, tmp_path: Path
) -> None:
    async with running_nodes(nats.url, tmp_path, "a", "b") as (owner, other), AsyncExitStack() as stack:
        await stack.enter_async_context(live_stream(owner.registry))
        output = owner.registry.audience.output("cam")
        output.push(picture(0))
        location = await watch(other, "cam", stack)
        assert f"cam/whep/{other.node.tag}-" in location
        assert (len(owner.registry.audience), len(other.registry.audience)) == (0, 1)
        assert other.registry.audience.output("cam").held_bytes > 0
        assert owner.registry.audience.viewers_of("cam") == 1
        status = await (await other.ask("GET", f"{PATH}cam/status")).json()
        assert status["gateway_status"]["output"]["viewers"] == 1
        by_id = await watch(other, "id", stack)
        assert f"cam/whep/{owner.node.tag}-" in by_id
        assert (len(owner.registry.audience), len(other.registry.audience)) == (1, 1)
        before_a_publisher = await watch(other, "later", stack)
        assert f"later/whep/{other.node.tag}-" in before_a_publisher
        for one in (location, by_id, before_a_publisher):
            assert (await owner.ask("DELETE", one)).status == 200
        await eventually(
            lambda: not any(len(node.registry.audience) for node in (owner, other)), what="their end"
        )
        source = pictures(1)
        await pushed_until(lambda: not output.taps, output, source, "the owner to send nothing more")


async def test_the_node_that_takes_a_dead_one_s_name_is_shown_to_viewers_of_a_third(
    nats: NatsServer, tmp_path: Path
) -> None:
    async with (
        running_nodes(nats.url, tmp_path, "a", "b", "c") as (owner, heir, other),
        AsyncExitStack() as stack,
    ):
        await stack.enter_async_context(live_stream(owner.registry))
        output = owner.registry.audience.output("cam")
        output.push(picture(0))
        await watch(other, "cam", stack)
        shown = other.registry.audience.output("cam")
        source = pictures(1)
        await pushed_until(lambda: shown.frames > 5, output, source, "the owner's")
        await owner.node.bus.__aexit__(None, None, None)
        await stack.enter_async_context(live_stream(heir.registry))
        before, output = shown.frames, heir.registry.audience.output("cam")
        assert len(other.registry.audience) == 1
        source = pictures(GOP * 50)
        await pushed_until(lambda: shown.frames > before + 5, output, source, "the heir's")
        assert len(other.registry.audience) == other.registry.audience.viewers_of("cam") == 1
        assert heir.registry.audience.viewers_of("cam") == 1


async def test_a_viewer_stays_connected_when_the_owner_dies_and_sees_the_next_one(nats: NatsServer) -> None:
    client = aiortc_client()
    client.addTransceiver("video", direction="recvonly")
    tracks: list[MediaStreamTrack] = []
    client.on("track", tracks.append)
    async with media_node(nats.url, "b") as near, media_node(nats.url, "c", 2) as next_owner:
        audience = Audience(
            WebRtcConfig(),
            Quotas(),
            Admission(),
            is_live=near.live.__contains__,
            request_key_frame=near.asked.append,
        )
        relay = MediaRelay(
            near.bus,
            "viewers",
            is_live=near.live.__contains__,
            request_key_frame=near.asked.append,
            epoch_of=lambda _: 1,
        )
        audience.remote = relay
        try:
            async with media_node(nats.url, "a", 1) as owner:
                output = await owner.publish()
                output.push(picture(0))
                viewer = await audience.watch("cam", "v", await offer_of(client))
                assert audience.output("cam").profile == "42c0", "known before the viewer is answered"
                await take_answer(client, viewer.answer)
                source = pictures(1)
                await pushed_until(lambda: viewer.stats().frames > 5, output, source, "the owner's")
                await owner.bus.__aexit__(None, None, None)
            seen = viewer.stats().frames
            output = await next_owner.publish()
            source = pictures(GOP * 50)
            await pushed_until(lambda: viewer.stats().frames > seen + 5, output, source, "the next owner's")
            assert audience.find("cam", "v") is viewer
            shown = await within(tracks[0].recv(), what="a picture that was decoded")
            assert (shown.width, shown.height) == (320, 180)  # type: ignore[union-attr]
        finally:
            await client.close()
            await audience.close()
            await eventually(lambda: not relay.watches("cam"), what="its end")
            await relay.close()
