"""However a stream fails, everything is given back, at the gateway and at the orchestrator."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from harness.gateway import IDLE_CONNECTIONS, GatewayProcess, gateway_process
from harness.waiting import eventually
from harness.webrtc import Refused, WhepViewer, WhipPublisher
from tests.e2e.test_loop import ended, stream_for


async def stays_live(
    gateway: GatewayProcess, http: aiohttp.ClientSession, name: str = "cam"
) -> WhipPublisher:
    publisher = WhipPublisher(http, gateway.live(f"{name}/whip"))
    await publisher.__aenter__()

    async def live() -> bool:
        return bool((await gateway.status(name))["state"] == "live")

    await eventually(live, what="the stream")
    return publisher


async def nothing(gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
    await stream_for(2, gateway, http)


async def bad_offer(gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
    for offer in ("nonsense", "v=0\r\n", "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"):
        sdp = {"Content-Type": "application/sdp"}
        async with http.post(gateway.live("cam/whip"), data=offer, headers=sdp) as response:
            assert response.status == 400, await response.text()


async def never_connects(gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
    publisher = WhipPublisher(http, gateway.live("cam/whip"))
    offer = await publisher.peer.createOffer()
    await publisher.peer.setLocalDescription(offer)
    sdp = {"Content-Type": "application/sdp"}
    async with http.post(
        gateway.live("cam/whip"), data=publisher.peer.localDescription.sdp, headers=sdp
    ) as response:
        assert response.status == 201
    await publisher.__aexit__(None, None, None)
    assert (await ended(gateway, "cam"))["ended"]["reason"] == "ingest_timeout"


async def deleted_at_once(gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
    async with WhipPublisher(http, gateway.live("cam/whip")) as publisher:
        await publisher.stop()
        assert (await ended(gateway, "cam"))["ended"]["reason"] == "deleted"
        await publisher.stop()  # a second DELETE is as welcome


async def deleted_while_the_job_starts(gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
    async with WhipPublisher(http, gateway.live("cam/whip")) as publisher:

        async def paying() -> bool:
            return (await gateway.status("cam"))["payments"] is not None

        await eventually(paying, every=0.001, what="the first payment")
        await publisher.stop()
        status = await ended(gateway, "cam")
        assert status["ended"]["reason"] == "deleted"


async def publisher_vanishes(gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
    publisher = await stays_live(gateway, http)
    publisher.track.paused.set()
    assert (await ended(gateway, "cam"))["ended"]["reason"] == "ingest_timeout"
    await publisher.__aexit__(None, None, None)


async def viewer_of_nothing(gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
    async with WhepViewer(http, gateway.live("nobody/whep")) as viewer:
        await eventually(lambda: viewer.peer.connectionState == "connected", what="the viewer")
        await viewer.stop()
        await viewer.stop()


async def runner_refuses(gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
    with pytest.raises(Refused) as refused:
        async with WhipPublisher(http, gateway.live("cam/whip?params=[1]")):
            pass
    assert refused.value.status == 400
    async with WhipPublisher(http, gateway.live('cam/whip?params={"effect":"no such"}')):
        status = await ended(gateway, "cam")
    assert status["ended"]["reason"] == "orchestrator_lost"
    assert "its worker refused the start (400)" in status["error"]["error_message"]


async def no_capacity(gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
    publisher = await stays_live(gateway, http)
    try:
        async with WhipPublisher(http, gateway.live("second/whip")):
            status = await ended(gateway, "second")
        assert status["ended"]["reason"] in {"no_orchestrator", "orchestrator_lost"}
    except Refused as refused:  # the orchestrator has said already that it is full
        assert refused.status == 503
    await publisher.stop()
    await publisher.__aexit__(None, None, None)
    await ended(gateway, "cam")


async def runner_dies(gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
    publisher = await stays_live(gateway, http)
    os.kill((await gateway.devnet())["runner_pid"], signal.SIGKILL)

    async def swapped() -> bool:
        status = await gateway.status("cam")
        return bool(status["state"] == "live" and status["swaps"] == 1)

    await eventually(swapped, what="a job on the runner that was restarted")
    await publisher.stop()
    await publisher.__aexit__(None, None, None)
    await ended(gateway, "cam")


async def signer_is_away(gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
    signer = (await gateway.devnet())["signer_pid"]
    os.kill(signer, signal.SIGSTOP)
    try:
        async with WhipPublisher(http, gateway.live("cam/whip")) as publisher:
            await asyncio.sleep(1)  # into the signing call, which hangs
            await publisher.stop()
    finally:
        os.kill(signer, signal.SIGCONT)
    assert (await ended(gateway, "cam"))["ended"]["reason"] == "deleted"


Failure = Callable[[GatewayProcess, aiohttp.ClientSession], Awaitable[None]]
FAILURES: list[Failure] = [
    nothing,
    bad_offer,
    never_connects,
    deleted_at_once,
    deleted_while_the_job_starts,
    publisher_vanishes,
    viewer_of_nothing,
    runner_refuses,
    no_capacity,
    runner_dies,
    signer_is_away,
]


@pytest.mark.asyncio
async def test_whatever_fails_or_not_leaves_nothing_behind(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    limits = ("-capacity", "1", "-connectTimeout", "2s", "-ingestTimeout", "2s", "-discoveryInterval", "1s")
    async with gateway_process(tmp_path, "-restart", *limits) as gateway:
        # what is made once and kept is made by a first stream
        publisher = await stays_live(gateway, http)
        await publisher.stop()
        await publisher.__aexit__(None, None, None)
        await ended(gateway, "cam")
        before = await settled(gateway)
        for failure in FAILURES:
            await ready(gateway, http)
            await failure(gateway, http)
            # idle connections to the orchestrator are waited out once, after all of them
            soon = {**before, "fds": before["fds"] + IDLE_CONNECTIONS}
            await gateway.given_back(soon, after=failure.__name__)
            await nothing_upstream(gateway, failure.__name__)
        await gateway.given_back(before, after="all of them")


async def ready(gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
    async def is_ready() -> bool:
        async with http.get(gateway.url + "readyz") as response:
            return response.status == 200

    await eventually(is_ready, deadline=40, what="readiness")


async def settled(gateway: GatewayProcess) -> dict[str, int]:
    """What is held once two looks in a row agree and nobody streams."""
    while True:
        first = await gateway.holds()
        await asyncio.sleep(0.3)
        if await gateway.holds() == first and first["streams"] == 0:
            return first


async def nothing_upstream(gateway: GatewayProcess, failure: str) -> None:
    async def closed() -> bool:
        audits = await gateway.audits()
        return all(audit["channels"] == 0 and audit["capacity_in_use"] == 0 for audit in audits)

    await eventually(closed, what=f"the orchestrator's channels after {failure}")
    for audit in await gateway.audits():
        assert all(session["ended"] for session in audit["sessions"].values()), failure
