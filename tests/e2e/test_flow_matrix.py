"""What every kind of job does, over jobs and live runners in both dialects."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from harness.devnet import EQUAL_PRICES
from harness.gateway import GatewayProcess, gateway_process
from harness.ledger import credited, verify
from harness.waiting import SLACK, eventually
from harness.webrtc import WhepViewer, WhipPublisher, longest_gap
from tests.e2e.test_loop import clean_audits, ended, stream_for
from tests.e2e.test_runner_standby import takes_over

pytestmark = [pytest.mark.long, pytest.mark.asyncio]
SWAP = 1.0
"""Seconds without the effect, at most, where another one takes over."""
BACK = 3.0
"""Seconds from a publisher's return to its picture, at most."""
ROUNDING = 0.02
"""What may be billed by the second beyond the time that passed, as a share."""
MINUTES, BLOCK_TIME = float(os.environ.get("MINUTES", "2")), os.environ.get("BLOCK_TIME", "1s")
"""Of the long stream; with MINUTES=20 BLOCK_TIME=12s it is as on the network."""
NETWORKS = {
    "job": ("-orchestrators", "{}"),
    "runner-go": ("-orchestrators", "0", "-runners", "{}", "-dialect", "go"),
    "runner-node": ("-orchestrators", "0", "-runners", "{}", "-dialect", "node"),
    "runner-720p": ("-orchestrators", "0", "-runners", "{}", "-dialect", "go", "-runnerUnit", "720p"),
    "runner-messages": ("-orchestrators", "0", "-runners", "{}", "-appStart", "messages"),
}
BY_THE_SECOND = ("runner-go", "runner-node", "runner-messages")
all_kinds = pytest.mark.parametrize("kind", NETWORKS)
kinds = pytest.mark.parametrize("kind", ["job", "runner-go", "runner-node"])
dialects = pytest.mark.parametrize("dialect", ["go", "node"])


def network(kind: str, count: int = 1) -> list[str]:
    """The flags of a network with so many of one kind."""
    return [flag.format(count) for flag in NETWORKS[kind]]


async def paid(gateway: GatewayProcess, payments: int) -> dict[str, Any]:
    """The stream's status once it has made so many payments."""

    async def enough() -> dict[str, Any] | None:
        status = await gateway.status("cam")
        return status if status["payments"]["accepted"] >= payments else None

    return dict(await eventually(enough, every=0.1, deadline=60, what=f"{payments} payments"))


async def in_use(gateway: GatewayProcess) -> dict[str, Any]:
    """Who works for the stream, as the devnet describes it."""
    url = (await gateway.status("cam"))["orchestrator"]["url"]
    described = await gateway.devnet()
    everybody = (*described["runners"], *described["orchestrators"])
    return dict(next(one for one in everybody if f"{url}/".startswith(f"{one['url']}/")))


async def swapped(gateway: GatewayProcess, viewer: WhepViewer, swaps: int, since: float) -> float:
    """Wait for that many swaps and pictures after them; the longest gap in the effect."""

    async def live() -> bool:
        status = await gateway.status("cam")
        return bool(status["swaps"] == swaps and status["state"] == "live")

    await eventually(live, every=0.02, what="the swap")
    frames = viewer.frames
    await eventually(lambda: viewer.frames > frames + 30 and viewer.shows_negative, what="pictures again")
    return longest_gap(moment for moment in viewer.negatives if moment > since - 0.1)


async def usable_again(gateway: GatewayProcess, url: str) -> None:
    """Wait until an orchestrator that was killed may be used, but for what it has just done."""
    mine: list[dict[str, Any]] = []

    async def usable() -> bool:
        known = await gateway.get("orchestrators")
        entries = (*known["orchestrators"], *known["runners"])
        mine[:] = [one for one in entries if f"{one.get('url')}/".startswith(f"{url}/")]
        return bool(mine) and any(one["verdict"] in ("available", "chosen", "set_aside") for one in mine)

    try:
        await eventually(usable, every=0.2, deadline=60)
    except AssertionError:
        raise AssertionError(f"{url} did not come back: {mine}") from None


@all_kinds
async def test_a_stream_is_updated_reloaded_and_paid_to_the_wei(
    kind: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    flags = (*network(kind), "-resumeTimeout", "10s", "-ledger", str(ledger))
    async with gateway_process(tmp_path, *flags) as gateway:
        began = time.monotonic()
        async with WhepViewer(http, gateway.live("cam/whep")) as viewer:
            async with WhipPublisher(http, gateway.live("cam/whip")) as publisher:
                await eventually(lambda: viewer.shows_negative, what="the changed picture")
                other = {"effect": "grey"} if kind == "job" else {"mode": "echo"}
                async with http.post(gateway.live("cam/update"), json=other) as response:
                    assert response.status == 200, await response.text()
                await eventually(lambda: viewer.shows_original, what="the other effect")
                await publisher.stop()
            came, frames = time.monotonic(), viewer.frames
            async with WhipPublisher(http, gateway.live("cam/whip")) as publisher:
                await eventually(lambda: viewer.frames > frames + 5, what="pictures after the reload")
                assert time.monotonic() - came < SLACK * BACK
                await asyncio.sleep(20 - (time.monotonic() - began))  # the stream's length
                await publisher.stop(resume=False)
        status = await ended(gateway, "cam")
        assert (status["ended"]["reason"], status["resumed"], status["swaps"]) == ("deleted", 1, 0)
        total = await clean_audits(gateway)
        assert (await gateway.signer_audit())["null_states"] == 1, "one opening"
    payments = status["payments"]
    assert total == credited(ledger) == int(payments["credited_wei"])
    opening = 10 if kind in BY_THE_SECOND else 60
    unused = int(payments["credited_wei"]) - int(payments["owed_wei"])
    assert unused <= (opening + 2) * 10**15 + SLACK * ROUNDING * int(payments["owed_wei"])
    await verify(ledger)


@kinds
async def test_a_killed_one_is_replaced_by_another_of_its_kind(
    kind: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    async with (
        gateway_process(tmp_path, *network(kind, 2), *EQUAL_PRICES, "-ledger", str(ledger)) as gateway,
        WhepViewer(http, gateway.live("cam/whep")) as viewer,
        WhipPublisher(http, gateway.live("cam/whip")) as publisher,
    ):
        await eventually(lambda: viewer.shows_negative and viewer.frames > 30, what="the changed picture")
        first, killed = await in_use(gateway), time.monotonic()
        os.kill(first["pid"], signal.SIGKILL)
        assert await swapped(gateway, viewer, 1, killed) < SLACK * SWAP
        assert (await in_use(gateway))["url"] != first["url"]
        await publisher.stop()
        assert (await ended(gateway, "cam"))["ended"]["reason"] == "deleted"
    await verify(ledger)


@dialects
async def test_a_runner_and_a_job_replace_each_other_there_and_back(
    dialect: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    flags = ("-orchestrators", "1", "-runners", "1", "-dialect", dialect, "-restart")
    async with (
        gateway_process(tmp_path, *flags) as gateway,
        WhepViewer(http, gateway.live("cam/whep")) as viewer,
        WhipPublisher(http, gateway.live("cam/whip")),
    ):
        await eventually(lambda: viewer.shows_negative and viewer.frames > 30, what="the changed picture")
        used = []
        for swaps in (1, 2):
            victim, killed = await in_use(gateway), time.monotonic()
            used.append(victim["url"])
            os.kill(victim["pid"], signal.SIGKILL)
            assert await swapped(gateway, viewer, swaps, killed) < SLACK * SWAP

            await usable_again(gateway, victim["url"])
        used.append((await in_use(gateway))["url"])
        assert used[0] == used[2] != used[1]


@kinds
async def test_a_stream_survives_a_restart_of_the_signer(
    kind: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    flags = (*network(kind), "-livePaymentInterval", "1s", "-restart", "-ledger", str(ledger))
    async with gateway_process(tmp_path, *flags) as gateway:
        async with (
            WhepViewer(http, gateway.live("cam/whep")) as viewer,
            WhipPublisher(http, gateway.live("cam/whip")) as publisher,
        ):
            await eventually(lambda: viewer.shows_negative, what="the changed picture")
            paid_before = (await gateway.status("cam"))["payments"]["accepted"]
            await gateway.restart_signer()
            await paid(gateway, paid_before + 3)
            assert (await gateway.signer_audit())["null_states"] == 0, "the session goes on"
            await publisher.stop()
            assert (await ended(gateway, "cam"))["swaps"] == 0
        assert await clean_audits(gateway) == credited(ledger)
    await verify(ledger)


@kinds
async def test_params_and_tokens_that_expire_within_the_stream_are_renewed(
    kind: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    # params live 40 blocks = 4 s, and tokens want a refresh every 5 s
    flags = ("-blockTime", "100ms", "-tokenLife", "3m5s", "-livePaymentInterval", "2500ms")
    async with gateway_process(tmp_path, *network(kind), *flags) as gateway:
        _, viewer = await stream_for(16, gateway, http)
        status = await gateway.status("cam")
        assert (status["ended"]["reason"], status["swaps"]) == ("deleted", 0)
        assert status["payments"]["accepted"] >= 4
        assert viewer.frames > 260
        assert (await gateway.signer_audit())["null_states"] == 1
        await clean_audits(gateway)


async def test_a_session_in_go_livepeers_dialect_stands_by_and_takes_over(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    await takes_over("go", tmp_path, http)


@dialects
async def test_a_challenge_one_wei_above_the_ceiling_is_left_before_anything_is_signed(
    dialect: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with gateway_process(tmp_path, *network(f"runner-{dialect}")) as gateway:
        (runner,) = (await gateway.devnet())["runners"]
        price = int(runner["price_wei_per_second"])
        change = {"price_wei_per_second": price + 1, "listed_wei": price}
        async with http.patch(f"{runner['url']}/devnet/tariff", json=change, ssl=False) as response:
            assert response.status == 204
        async with WhipPublisher(http, gateway.live("cam/whip")):
            status = await ended(gateway, "cam")
        assert "above the ceiling" in status["ended"]["detail"]
        assert (await gateway.signer_audit())["signings"] == 0


@pytest.mark.timeout(240 + 60 * MINUTES)
async def test_two_minutes_at_a_nodes_defaults_with_short_blocks_cost_what_was_used(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """Ticket params live 40 blocks."""
    ledger = tmp_path / "ledger.sqlite3"
    flags = (*network("runner-node"), "-blockTime", BLOCK_TIME, "-ledger", str(ledger))
    async with gateway_process(tmp_path, *flags) as gateway:
        async with (
            WhepViewer(http, gateway.live("cam/whep")) as viewer,
            WhipPublisher(http, gateway.live("cam/whip")) as publisher,
        ):
            await eventually(lambda: viewer.shows_negative, what="the changed picture")
            await asyncio.sleep(60 * MINUTES)  # the stream's length, not a wait for something
            payments = (await gateway.status("cam"))["payments"]
            assert float(payments["credit_left_s"]) > 0
            assert int(payments["overpaid_wei"]) <= SLACK * ROUNDING * int(payments["owed_wei"])
            await publisher.stop()
        status = await ended(gateway, "cam")
        assert (status["ended"]["reason"], status["swaps"]) == ("deleted", 0)
        assert gateway.log.read_text().count("ticket params refreshed") >= 2
        assert (await gateway.signer_audit())["null_states"] == 1
        assert await clean_audits(gateway) == credited(ledger) == int(status["payments"]["credited_wei"])
    await verify(ledger)
