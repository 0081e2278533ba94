"""An orchestrator that takes pay and shows nothing: another one is paid, and it is remembered."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from harness.devnet import devnet_process, network_flags
from harness.gateway import GatewayProcess, gateway_process
from harness.waiting import eventually
from harness.webrtc import WhepViewer, WhipPublisher

STREAMS = 4
CHEAPER_FIRST = ("-orchestrators", "2", "-prices", "900000000000000,1000000000000000")


async def trust_in(gateway: GatewayProcess, orchestrator: dict[str, Any]) -> dict[str, Any]:
    """What the gateway knows of it."""
    listed = (await gateway.get("orchestrators"))["orchestrators"]
    return dict(next(one["trust"] for one in listed if one["addr"] == orchestrator["addr"]))


@pytest.mark.asyncio
async def test_a_thief_gets_one_preload_of_several_streams_and_is_known_after_a_restart(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with devnet_process(tmp_path, *CHEAPER_FIRST, "-hostile", "no_picture") as devnet:
        thief, honest = devnet["orchestrators"]
        flags = ("-liveOutSegmentTimeout", "2s", "-ledger", str(tmp_path / "ledger"), *network_flags(devnet))
        async with gateway_process(tmp_path, *flags, devnet=False) as gateway:
            async with AsyncExitStack() as stack:
                viewers = [WhepViewer(http, gateway.live(f"cam{n}/whep")) for n in range(STREAMS)]
                publishers = [WhipPublisher(http, gateway.live(f"cam{n}/whip")) for n in range(STREAMS)]
                await asyncio.gather(*[stack.enter_async_context(viewer) for viewer in viewers])
                await asyncio.gather(*[stack.enter_async_context(publisher) for publisher in publishers])
                for viewer in viewers:
                    await eventually(lambda one=viewer: one.shows_negative, deadline=60, what="its effect")
            robbed = await trust_in(gateway, thief)
            assert (robbed["starts"], robbed["empty_starts"], robbed["delivered_s"]) == (1, 1, 0)
            assert (await trust_in(gateway, honest))["starts"] == STREAMS
        async with gateway_process(tmp_path, *flags, devnet=False) as gateway:
            again = await trust_in(gateway, thief)
            assert (again["starts"], again["empty_starts"]) == (1, 1)
            assert int(again["paid_wei"]) >= 60 * 9 * 10**14, "the preload"
            assert (await trust_in(gateway, honest))["empty_starts"] == 0
