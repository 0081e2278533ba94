"""Two nodes on one NATS and one PostgreSQL: one is killed, and its publisher goes on through the other."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from harness.devnet import devnet_process, network_flags
from harness.gateway import GatewayProcess, gateway_process
from harness.ledger import verify
from harness.nats import NatsServer, nats_server
from harness.postgresql import PostgresqlServer, postgresql_server
from harness.waiting import SLACK, eventually, within
from harness.webrtc import WhepViewer, WhipPublisher

pytestmark = pytest.mark.asyncio

ANSWERED_WITHIN = 1.5
"""Seconds from a node's death to the 201 of its publisher, which asks another node at once."""


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsServer]:
    with nats_server() as server:
        yield server


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgresqlServer]:
    with postgresql_server() as server:
        yield server


@asynccontextmanager
async def node(
    devnet: dict[str, Any], folder: Path, nats: NatsServer, ledger: str, name: str
) -> AsyncIterator[GatewayProcess]:
    flags = (
        *network_flags(devnet),
        *("-cluster", nats.url, "-nodeName", name, "-ledger", ledger, "-dataDir", str(folder / name)),
        *("-resumeTimeout", "60s", "-livePaymentInterval", "1s"),
    )
    async with gateway_process(folder, *flags, devnet=False) as gateway:
        yield gateway


async def streams_of(gateway: GatewayProcess) -> dict[str, int]:
    return {one["name"]: one["streams"] for one in (await gateway.get("nodes"))["nodes"]}


async def audit(http: aiohttp.ClientSession, devnet: dict[str, Any]) -> dict[str, Any]:
    async with http.get(devnet["signer_audit_url"]) as response:
        return dict(await response.json())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
async def test_a_publisher_goes_on_with_its_paid_job_on_another_node(
    how: signal.Signals,
    nats: NatsServer,
    postgresql: PostgresqlServer,
    tmp_path: Path,
    http: aiohttp.ClientSession,
) -> None:
    ledger = postgresql.database()
    async with (
        devnet_process(tmp_path, "-capacity", "2") as devnet,
        node(devnet, tmp_path, nats, ledger, "a") as a,
        node(devnet, tmp_path, nats, ledger, "b") as b,
    ):

        async def both() -> bool:
            return await streams_of(a) == {"a": 0, "b": 0} == await streams_of(b)

        await eventually(both)
        async with WhipPublisher(http, a.live("cam/whip")):
            async with WhepViewer(http, b.live("cam/whep")) as viewer:
                await eventually(lambda: viewer.shows_negative, what="the picture")

            async def counted() -> bool:
                return sum((await streams_of(a)).values()) == 1

            await eventually(counted)
            owns_a = (await streams_of(a))["a"] == 1
            owner, other = (a, b) if owns_a else (b, a)
            before = await other.status("cam")
            assert before["request_id"] == (await owner.status("cam"))["request_id"]
            os.kill(owner.pid, how)
            if how is signal.SIGTERM:
                os.kill(owner.pid, how)  # it does not wait for its stream
                await within(owner.process.wait())
            killed = time.monotonic()
        async with WhipPublisher(http, other.live("cam/whip")):
            assert time.monotonic() - killed < ANSWERED_WITHIN * SLACK

            async def resumed() -> bool:
                status = await other.status("cam")
                return (status["state"], status["resumed"]) == ("live", 1)

            await eventually(resumed)
            after = await other.status("cam")
            assert after["request_id"] == before["request_id"]
            assert (after["orchestrator"], after["swaps"]) == (before["orchestrator"], 0)
            signed = (await audit(http, devnet))["signings"]

            async def more_was_paid() -> bool:
                return bool((await audit(http, devnet))["signings"] > signed)

            await eventually(more_was_paid)
            async with WhepViewer(http, other.live("cam/whep")) as viewer:
                await eventually(lambda: viewer.shows_negative, what="the picture on the other node")
        assert (await audit(http, devnet))["null_states"] == 1  # one session, one first payment
        assert (await other.stop()) == 0
    assert (await verify(ledger))["findings"] == 0
