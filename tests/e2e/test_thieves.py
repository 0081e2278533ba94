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
from harness.ledger import left_open, verify
from harness.waiting import SLACK, eventually
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


HOSTILE = ("drip", "bait", "moving_address")


@pytest.mark.asyncio
async def test_who_drips_baits_or_moves_is_left_and_takes_no_more_than_a_preload_each(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """The honest one is the dearest, so that the stream tries all others first."""
    kinds = ("-orchestrators", "4", "-hostile", ",".join(HOSTILE))
    price = 9 * 10**14
    prices = ("-prices", f"{price},{price},{price - 1},1000000000000000")
    ledger = tmp_path / "ledger"
    async with devnet_process(tmp_path, *kinds, *prices) as devnet:
        drip, bait, moving, honest = devnet["orchestrators"]
        # a drip is left after 10 s, before it is silent for too long
        flags = ("-liveOutSegmentTimeout", "12s", "-ledger", str(ledger), *network_flags(devnet))
        async with (
            gateway_process(tmp_path, *flags, devnet=False) as gateway,
            AsyncExitStack() as stack,
        ):
            viewer = await stack.enter_async_context(WhepViewer(http, gateway.live("cam/whep")))
            await stack.enter_async_context(WhipPublisher(http, gateway.live("cam/whip")))

            async def served() -> bool:
                paid = (await gateway.status("cam"))["orchestrator"]
                return bool(paid and paid["url"] == honest["url"] and viewer.shows_negative)

            await eventually(served, deadline=90, every=0.5, what="the honest one's picture")
            known = await trust_in(gateway, moving)
            assert (known["starts"], known["empty_starts"], known["delivered_s"]) == (1, 1, 0)
            robbed = [
                int((await gateway.fetch(thief["audit_url"]))["credited_wei"])
                for thief in (drip, bait, moving)
            ]
    assert 60 * price <= robbed[0] < (60 + 10 * SLACK) * price
    assert robbed[1] < price, "a preload at the low price that it listed, if any"
    assert robbed[2] == 60 * (price - 1)
    assert left_open(ledger) == 0
    await verify(ledger)
