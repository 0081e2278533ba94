"""Stopping the gateway in every state of its streams, and what `/readyz` says."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from harness.gateway import GatewayProcess, gateway_process
from harness.ledger import session_reasons
from harness.waiting import DEADLINE, SLACK, eventually
from harness.webrtc import Refused, WhepViewer, WhipPublisher


async def in_state(gateway: GatewayProcess, *states: str) -> None:
    async def there() -> bool:
        return (await gateway.status("cam"))["state"] in states

    await eventually(there, every=0.01, what=" or ".join(states))


async def answers(gateway: GatewayProcess, http: aiohttp.ClientSession, status: int, words: str) -> None:
    """`/readyz` comes to have this status and these words: it should within 5 s."""

    async def does() -> bool:
        async with http.get(gateway.url + "readyz") as response:
            return response.status == status and words in await response.text()

    await eventually(does, deadline=SLACK * 5, what=f"readyz with {status} {words}")


@pytest.mark.asyncio
async def test_while_draining_a_live_stream_goes_on_and_new_ones_are_refused(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with (
        gateway_process(tmp_path, "-drainTimeout", "1m") as gateway,
        WhepViewer(http, gateway.live("cam/whep")) as viewer,
        WhipPublisher(http, gateway.live("cam/whip")) as publisher,
    ):
        await eventually(lambda: viewer.shows_negative, what="the changed picture")
        gateway.process.send_signal(signal.SIGTERM)
        await answers(gateway, http, 503, "draining")
        assert (await gateway.get("healthz"))["status"] == "alive"
        with pytest.raises(Refused) as refused:
            async with WhipPublisher(http, gateway.live("late/whip")):
                pass
        assert (refused.value.status, refused.value.problem["code"]) == (503, "draining")
        assert int(refused.value.headers["Retry-After"]) > 0
        frames = viewer.frames
        await eventually(lambda: viewer.frames > frames + 15, what="the stream, which goes on")
        await publisher.stop()
        assert await asyncio.wait_for(gateway.process.wait(), DEADLINE) == 0


@pytest.mark.asyncio
async def test_a_second_signal_ends_at_once_with_the_ledger_closed(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    async with (
        gateway_process(tmp_path, "-drainTimeout", "1m", "-ledger", str(ledger)) as gateway,
        WhipPublisher(http, gateway.live("cam/whip")),
    ):
        await in_state(gateway, "live")
        gateway.process.send_signal(signal.SIGINT)
        await answers(gateway, http, 503, "draining")
        gateway.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(gateway.process.wait(), DEADLINE) == 0
    assert session_reasons(ledger) == ["drained"]


@asynccontextmanager
async def live(gateway: GatewayProcess, http: aiohttp.ClientSession) -> AsyncIterator[None]:
    async with WhipPublisher(http, gateway.live("cam/whip")):
        await in_state(gateway, "live")
        yield


@asynccontextmanager
async def waiting_for_a_key_frame(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> AsyncIterator[None]:
    publisher = WhipPublisher(http, gateway.live("cam/whip"))
    publisher.track.paused.set()
    async with publisher:
        await in_state(gateway, "waiting_for_key_frame")
        yield


@asynccontextmanager
async def starting_with_a_signer_that_hangs(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> AsyncIterator[None]:
    signer = (await gateway.devnet())["signer_pid"]
    os.kill(signer, signal.SIGSTOP)
    async with WhipPublisher(http, gateway.live("cam/whip")):

        async def paying() -> bool:
            return (await gateway.status("cam"))["payments"] is not None

        await eventually(paying, every=0.01, what="the signing call")
        asyncio.get_running_loop().call_later(1.5, os.kill, signer, signal.SIGCONT)
        yield


@asynccontextmanager
async def swapping_with_nobody_left(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> AsyncIterator[None]:
    async with live(gateway, http):
        os.kill((await gateway.devnet())["orchestrators"][0]["pid"], signal.SIGKILL)
        await in_state(gateway, "swapping")
        yield


@asynccontextmanager
async def live_with_a_standby(gateway: GatewayProcess, http: aiohttp.ClientSession) -> AsyncIterator[None]:
    async with WhipPublisher(http, gateway.live("cam/whip?standby=true")):

        async def standing_by() -> bool:
            return bool((await gateway.status("cam"))["standby"]["state"] == "ready")

        await eventually(standing_by, what="a job that stands by")
        yield


State = Callable[[GatewayProcess, aiohttp.ClientSession], AbstractAsyncContextManager[None]]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("state", "sessions"),
    [
        (live, ["drained"]),
        (waiting_for_a_key_frame, []),
        (starting_with_a_signer_that_hangs, ["drained"]),
        (swapping_with_nobody_left, ["orchestrator_lost"]),
        (live_with_a_standby, ["drained", "drained"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_after_the_drain_timeout_every_stream_ends_with_drained(
    state: State, sessions: list[str], tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    orchestrators = "2" if state is live_with_a_standby else "1"
    prices = ("-orchestrators", orchestrators, "-prices", "1000000000000000")
    flags = (*prices, "-drainTimeout", "500ms", "-ledger", str(ledger))
    async with gateway_process(tmp_path, *flags) as gateway, state(gateway, http):
        told = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(gateway.process.wait(), DEADLINE) == 0
        assert time.monotonic() - told > 0.5
    ends = [line for line in gateway.log.read_text().splitlines() if "stream ended" in line]
    assert len(ends) == 1
    assert "reason=drained" in ends[0]
    assert session_reasons(ledger) == sessions


@pytest.mark.asyncio
async def test_a_signal_during_the_start_stops_the_start(tmp_path: Path) -> None:
    async with gateway_process(tmp_path, wait_ready=False) as gateway:
        await eventually(lambda: "listens" in gateway.log.read_text(), what="the devnet's first part")
        gateway.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(gateway.process.wait(), DEADLINE) == 0
        assert "Traceback" not in gateway.log.read_text()


@pytest.mark.asyncio
async def test_readiness_follows_signer_ledger_and_orchestrators_within_five_seconds(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    flags = ("-capacity", "1", "-restart", "-ledger", str(ledger))
    async with gateway_process(tmp_path, *flags) as gateway:
        await answers(gateway, http, 200, "ready")
        devnet = await gateway.devnet()
        os.kill(devnet["signer_pid"], signal.SIGSTOP)
        await answers(gateway, http, 503, "signer")
        os.kill(devnet["signer_pid"], signal.SIGCONT)
        await answers(gateway, http, 200, "ready")

        other = sqlite3.connect(ledger, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await answers(gateway, http, 503, "ledger")
        other.execute("ROLLBACK")
        other.close()
        await answers(gateway, http, 200, "ready")

        os.kill(devnet["orchestrators"][0]["pid"], signal.SIGKILL)
        await answers(gateway, http, 503, "unreachable")
        await answers(gateway, http, 200, "ready")

        async with WhipPublisher(http, gateway.live("cam/whip")) as publisher:
            await answers(gateway, http, 503, "no_capacity")
            await publisher.stop()
            async with WhipPublisher(http, gateway.live("cam/whip")) as following:
                await in_state(gateway, "live")
                await following.stop()
        await answers(gateway, http, 200, "ready")
