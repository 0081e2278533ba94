"""An orchestrator that takes segments too slowly is replaced; others are not affected."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.trickle.publisher import MAX_BUFFER, MAX_IN_FLIGHT
from harness.devnet import devnet_process
from harness.fault_proxy import FaultProxy, fault_proxy
from harness.gateway import GatewayProcess, gateway_process
from harness.slow_uplink import SlowUplink, slow_uplink
from harness.waiting import eventually
from harness.webrtc import FPS, WhepViewer, WhipPublisher, encoded_pattern, longest_gap, vcl_hashes
from tests.e2e.test_loop import ended

CHEAPER, DEARER = "1000000000000000", "2000000000000000"
CRAWL = 200
"""Bytes a second: a twentieth of what comes from the publisher."""
ON_THE_WAY = 1
"""Segments that may be dropped before the server knows of it."""
GOP = 1.0
LONGEST_GAP = 10.0
"""Seconds: of segments of one each as many as may be in flight, one more, and the swap."""


@asynccontextmanager
async def cheap_one_behind(
    uplink: SlowUplink, folder: Path
) -> AsyncIterator[tuple[GatewayProcess, dict[str, Any]]]:
    """A gateway that knows two orchestrators, and the devnet; segments for the cheaper go over `uplink`."""
    async with AsyncExitStack() as stack:
        devnet = await stack.enter_async_context(devnet_process(folder, "-orchestrators", "2"))
        proxy: FaultProxy = await stack.enter_async_context(fault_proxy(devnet, seed=1, share=0))
        proxy.publish_through = uplink.url
        dearer = devnet["orchestrators"][1]["addr"]
        flags = ("-remoteSignerUrl", devnet["signer"], "-orchAddr", f"{proxy.addr},{dearer}")
        gateway = await stack.enter_async_context(
            gateway_process(folder, *flags, "-maxPricePerUnit", "0.002ETH", devnet=False)
        )

        async def both_answered() -> bool:
            listed = (await gateway.get("orchestrators"))["orchestrators"]
            return {one["verdict"] for one in listed} == {"chosen", "available"}

        await eventually(both_answered, what="the answers of both")
        yield gateway, devnet


async def segments_dropped(gateway: GatewayProcess) -> int:
    """As the metrics have it, over all streams."""
    async with gateway.http.get(gateway.url + "metrics") as response:
        found = re.search(r'^livepeer_drops_total{kind="segment_in"} (\S+)$', await response.text(), re.M)
    assert found
    return int(float(found[1]))


def slowest_second(pace: list[tuple[float, int]]) -> float:
    """The lowest frame rate of a publisher, in frames a second, from the counts in `pace`."""
    return min(
        (sent - before) / (at - since)
        for (since, before), (at, sent) in combinations(pace, 2)
        if 1 <= at - since <= 1.5
    )


def runs(received: list[str], sent: list[str]) -> int:
    """In how many runs without a gap `received` has come, each of which has to begin with a key frame."""
    key_frames = {vcl_hashes(unit)[0] for unit in encoded_pattern()[:: int(GOP * FPS)]}
    found = place = 0
    for slice_hash in received:
        if not found or sent[place] != slice_hash:
            assert slice_hash in key_frames, f"a gap within a segment, after {found} runs"
            found, place = found + 1, sent.index(slice_hash)
        place += 1
    return found


@pytest.mark.asyncio
async def test_stalled_segments_are_dropped_and_counted_while_publisher_and_viewer_stay(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with (
        slow_uplink() as uplink,
        cheap_one_behind(uplink, tmp_path) as (gateway, devnet),
        WhepViewer(http, gateway.live("cam/whep")) as viewer,
        WhipPublisher(http, gateway.live("cam/whip")) as publisher,
    ):
        await eventually(lambda: viewer.shows_negative, what="the changed picture")

        async def steady() -> bool:
            ingest = (await gateway.status("cam"))["ingest"]
            return bool(ingest["fps"] > 0.9 * FPS and ingest["gop_s"])

        await eventually(steady, what="the publisher's frames at their rate")
        before = await gateway.status("cam")
        assert before["ingest"]["segments_dropped"] == await segments_dropped(gateway) == 0
        assert before["orchestrator"]["price_wei_per_second"] == CHEAPER
        uplink.bytes_per_second = CRAWL
        meanwhile: list[dict[str, Any]] = []
        pace: list[tuple[float, int]] = []

        async def left() -> bool:
            pace.append((time.monotonic(), publisher.track.sent))
            meanwhile.append(await gateway.status("cam"))
            held = (await gateway.get("debug/state"))["held_bytes"]
            assert held < MAX_BUFFER
            return bool(meanwhile[-1]["swaps"] == 1 and meanwhile[-1]["state"] == "live")

        await eventually(left, what="the dearer orchestrator at work")
        frames = viewer.frames
        await eventually(lambda: viewer.frames > frames + FPS, what="the picture's return")
        after = await gateway.status("cam")

        assert "too slow" in after["error"]["error_message"]
        assert after["orchestrator"]["price_wei_per_second"] == DEARER
        # the one that was too many, and those on their way, of which the last is finished at the end
        dropped = after["ingest"]["segments_dropped"]
        assert 1 <= dropped <= 1 + MAX_IN_FLIGHT
        assert await segments_dropped(gateway) == dropped
        assert MAX_IN_FLIGHT <= uplink.most_in_flight <= MAX_IN_FLIGHT + ON_THE_WAY

        # the publisher: not a packet less, and no later
        assert after["request_id"] == before["request_id"]
        assert min(status["ingest"]["fps"] for status in meanwhile) > 0.8 * min(FPS, slowest_second(pace))
        assert max(status["ingest"]["key_frame_age_s"] for status in meanwhile) < 2 * GOP
        assert after["ingest"]["packets_lost"] == 0
        newest, *_, oldest = await gateway.fetch(devnet["runner"] + "/devnet/jobs")
        assert runs(newest["vcl_sha256"], publisher.track.hashes) == 1
        assert runs(oldest["vcl_sha256"], publisher.track.hashes) <= 1 + dropped

        # the viewer: the same connection, and times that rise
        assert (after["output"]["viewers"], viewer.peer.connectionState) == (1, "connected")
        assert all(later > earlier for earlier, later in pairwise(viewer.pts))
        assert longest_gap(viewer.times) < LONGEST_GAP
        await publisher.stop()
        await ended(gateway, "cam")
        await gateway.given_back({"trickle": 0, "sessions": 0, "held_bytes": 0})
