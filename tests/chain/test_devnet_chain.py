"""The devnet's chain as a process: discovery, funds, redemptions."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.chain import rpc
from harness.gateway import BIN, GatewayProcess, gateway_process
from harness.waiting import eventually, within
from harness.webrtc import Refused, WhepViewer, WhipPublisher
from tests.chain.endpoints import endpoint, silence

pytestmark = [pytest.mark.asyncio, pytest.mark.heavy]

DEPOSIT = 50 * 10**18
QUICK = ("-blockPollingInterval", "500ms")


async def test_orchestrators_are_found_on_chain_and_redeem_what_they_win(tmp_path: Path) -> None:
    flags = ("-chain", "-deposit", str(DEPOSIT), "-faceValueMultiple", "4", "-hotCold", *QUICK)
    async with gateway_process(tmp_path, *flags) as devnet:
        where = await devnet.devnet()
        assert where["chain"].keys() == {"url", "pid", "controller"}
        own = await funds(devnet)
        assert (own["sender"], own["deposit_wei"]) == (where["signer_address"], str(DEPOSIT))
        assert own["refusal"] is None
        async with gateway_process(tmp_path, *on_chain(where, tmp_path), devnet=False) as gateway:
            (found,) = (await gateway.get("orchestrators"))["orchestrators"]
            assert found["address"] == where["orchestrators"][0]["address"]
            assert "web3" in (await gateway.get("debug/state"))["modules"]
            async with (
                WhepViewer(gateway.http, gateway.live("cam/whep")) as viewer,
                WhipPublisher(gateway.http, gateway.live("cam/whip")),
            ):
                await eventually(lambda: viewer.shows_negative, what="the changed picture")
                funded = (await gateway.status("cam"))["funds"]
                assert 0 < int(funded["deposit_wei"]) <= DEPOSIT
                assert funded["refusal"] is None
            audit = await eventually(
                lambda: all_redeemed(devnet), deadline=60, what="every winning ticket redeemed"
            )
            assert audit["redemptions"]["failed"] == audit["redemptions"]["dropped"] == 0
            (luck,) = await eventually(
                lambda: luck_in(tmp_path / "data", audit["winning_tickets"]),
                deadline=60,
                every=2,
                what="every redemption in the ledger",
            )
            assert (luck["tickets"], luck["unknown_wins"]) == (audit["tickets"], 0)
            assert luck["redeemed_wei"] == str(audit["winning_tickets"] * 4 * 10**15)
            async with gateway.http.get(gateway.url + "chain/luck.svg") as response:
                assert response.content_type == "image/svg+xml"
        spent = audit["winning_tickets"] * 4 * 10**15
        await eventually(lambda: left(devnet, DEPOSIT - spent), what="the deposit to shrink")
        async with endpoint(silence) as silent:
            flags = on_chain(where, tmp_path, url=silent.url)
            async with gateway_process(tmp_path, *flags, devnet=False) as again:
                longest = gateway.seconds_to_ready + rpc.TIMEOUT
                assert again.seconds_to_ready < longest, "a silent endpoint was waited for"
                known = (await again.get("chain"))["discovery"]
                assert (known["from"], known["listed"]) == ("disk", 1)
                async with WhipPublisher(again.http, again.live("cam/whip")):
                    await eventually(lambda: is_paid(again), what="a payment")
    assert list((tmp_path / "data").glob("orchestrators-0x*.json"))


async def test_a_deposit_that_backs_no_ticket_refuses_publishers_with_what_to_do(tmp_path: Path) -> None:
    flags = ("-chain", "-deposit", "0", *QUICK)
    async with gateway_process(tmp_path, *flags, wait_ready=False) as gateway:
        await gateway.listening()
        await eventually(lambda: unready(gateway), deadline=60, what="the chain to be read")
        with pytest.raises(Refused, match="no deposit"):
            async with WhipPublisher(gateway.http, gateway.live("cam/whip")):
                pass


def on_chain(where: dict[str, Any], folder: Path, *, url: str = "") -> tuple[str, ...]:
    """Flags of a gateway that knows the signer and the chain only, behind an endpoint that is dead."""
    return (
        *("-remoteSignerUrl", where["signer"], "-maxPricePerUnit", "0.001ETH"),
        *("-ethUrl", url or f"http://127.0.0.1:9,{where['chain']['url']}"),
        *("-ethController", where["chain"]["controller"]),
        *("-dataDir", str(folder / "data"), "-livePaymentInterval", "500ms"),
        *QUICK,
    )


async def funds(gateway: GatewayProcess) -> dict[str, Any]:
    async def seen() -> dict[str, Any] | None:
        now: dict[str, Any] = await gateway.get("chain")
        return now if now["deposit_wei"] is not None else None

    return dict(await eventually(seen, deadline=60, what="the chain to be read"))


async def all_redeemed(devnet: GatewayProcess) -> dict[str, Any] | None:
    (audit,) = await devnet.audits()
    won = audit["winning_tickets"]
    return audit if won and audit["redemptions"]["redeemed"] == won else None


async def luck_in(folder: Path, wins: int) -> list[dict[str, Any]] | None:
    """What the ledger's own command says, once it knows of so many wins."""
    process = await asyncio.create_subprocess_exec(
        *(BIN / "livepeer-gateway", "ledger", "luck", "-format", "json", "-dataDir", folder),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await within(process.communicate())
    assert process.returncode == 0
    rows: list[dict[str, Any]] = json.loads(said)
    return rows if sum(row["wins"] + row["unknown_wins"] for row in rows) == wins else None


async def is_paid(gateway: GatewayProcess) -> bool:
    payments = (await gateway.status("cam"))["payments"]
    return payments is not None and payments["accepted"] > 0


async def left(devnet: GatewayProcess, wei: int) -> bool:
    return (await funds(devnet))["deposit_wei"] == str(wei)


async def unready(gateway: GatewayProcess) -> bool:
    async with gateway.http.get(gateway.url + "readyz") as response:
        return response.status == 503 and "no deposit" in await response.text()
