"""Funds on a chain: what the operator is told, and what happens when they run out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from eth_account import Account

from gateway.chain.networks import ChainNetwork
from gateway.chain.reader import ChainReader
from gateway.chain.rpc import Endpoints
from harness.dashboards import ALERTS, DASHBOARD, metrics_named, metrics_served
from harness.gateway import GatewayProcess, gateway_process
from harness.waiting import eventually
from harness.webrtc import Refused, WhepViewer, WhipPublisher

pytestmark = pytest.mark.asyncio

ETHER = 10**18
DEPOSIT = 50 * ETHER
"""Under 14 hours of stream at the devnet's price: -minDepositHours is 24."""
UNLOCK: list[dict[str, Any]] = [
    {"type": "function", "name": "unlock", "inputs": [], "outputs": [], "stateMutability": "nonpayable"}
]


async def test_a_live_stream_outlasts_a_low_deposit_and_an_unlock_that_refuse_new_ones(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    data = tmp_path / "data"
    flags = ("-chain", "-deposit", str(DEPOSIT), "-unlockPeriod", "1")
    quick = ("-blockPollingInterval", "500ms", "-livePaymentInterval", "500ms", "-dataDir", str(data))
    async with gateway_process(tmp_path, *flags, *quick) as gateway:
        funds = await eventually(lambda: seen(gateway), deadline=60, what="the chain to be read")
        assert funds.items() >= idle(await gateway.devnet()).items()
        assert "web3" in (await gateway.get("debug/state"))["modules"]
        async with (
            WhepViewer(http, gateway.live("cam/whep")) as viewer,
            WhipPublisher(http, gateway.live("cam/whip")),
        ):
            await eventually(lambda: viewer.shows_negative, what="the changed picture")

            low = await eventually(lambda: warned(gateway), what="the warning of a low deposit")
            assert 13 < low["hours_left"] < 14
            assert low["refusal"] is None
            assert (await gateway.status("cam"))["funds"]["warning"].endswith("per second: fund it")
            assert "more hours at the present 1000000000000000 wei per second" in gateway.log.read_text()
            metrics = await metrics_of(gateway)
            named = metrics_named(DASHBOARD.read_text() + ALERTS.read_text())
            alone = {name for name in named if not name.startswith("livepeer_relay_")}
            assert alone <= metrics_served(await exposition(gateway))
            assert 13 < metrics["livepeer_deposit_hours_left"] < 14
            assert (metrics["livepeer_funds_warning"], metrics["livepeer_tickets_refused"]) == (1, 0)

            await unlock(http, await gateway.devnet(), data)
            gone = await eventually(lambda: refused(gateway), what="the unlock to be seen")
            assert gone["unlock_round"] == gone["round"] + 1
            assert (await metrics_of(gateway))["livepeer_tickets_refused"] == 1
            with pytest.raises(Refused, match="cancel the unlock at the TicketBroker"):
                async with WhipPublisher(http, gateway.live("late/whip")):
                    pass
            async with http.get(gateway.url + "readyz") as response:
                assert response.status == 503
                assert "cancel the unlock" in await response.text()

            now = await gateway.status("cam")
            assert now["state"] == "live"
            assert "cancel the unlock" in now["funds"]["refusal"]
            paid = now["payments"]["accepted"]
            await eventually(lambda: paid_more(gateway, paid + 2), what="payments of the live stream")


def idle(where: dict[str, Any]) -> dict[str, Any]:
    """What `/chain` says while nobody streams."""
    return {
        "sender": where["signer_address"],
        "deposit_wei": str(DEPOSIT),
        "reserve_wei": str(100 * ETHER),
        "max_face_value_wei": str(DEPOSIT),
        **dict.fromkeys(("unlock_round", "hours_left", "refusal", "warning")),
    }


async def seen(gateway: GatewayProcess) -> dict[str, Any] | None:
    now: dict[str, Any] = await gateway.get("chain")
    return now if now["deposit_wei"] is not None else None


async def warned(gateway: GatewayProcess) -> dict[str, Any] | None:
    now: dict[str, Any] = await gateway.get("chain")
    logged = "funds of the signer" in gateway.log.read_text()
    return now if now["warning"] is not None and logged else None


async def refused(gateway: GatewayProcess) -> dict[str, Any] | None:
    now: dict[str, Any] = await gateway.get("chain")
    return now if now["refusal"] is not None else None


async def paid_more(gateway: GatewayProcess, payments: int) -> bool:
    return int((await gateway.status("cam"))["payments"]["accepted"]) >= payments


async def metrics_of(gateway: GatewayProcess) -> dict[str, float]:
    """The metrics that have no labels."""
    said = await exposition(gateway)
    return {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", said, re.MULTILINE)}


async def exposition(gateway: GatewayProcess) -> str:
    async with gateway.http.get(gateway.url + "metrics") as response:
        return await response.text()


async def unlock(http: aiohttp.ClientSession, where: dict[str, Any], data: Path) -> None:
    """What the owner of the signer's key may do: a transaction to the TicketBroker."""
    endpoints = Endpoints(http, [where["chain"]["url"]])
    reader = ChainReader(endpoints, ChainNetwork(where["chain"]["controller"]))
    broker = await reader.contract("TicketBroker", UNLOCK)
    transaction = {
        "to": broker.address,
        "data": broker.encode_abi("unlock", []),
        "gas": 200_000,
        "gasPrice": 2 * int(await endpoints.ask("eth_gasPrice", []), 16),
        "nonce": 0,
        "chainId": endpoints.chain_id,
    }
    key = (data / "devnet" / "signer.key").read_text().strip()
    signed = Account.sign_transaction(transaction, key)
    await endpoints.ask("eth_sendRawTransaction", ["0x" + signed.raw_transaction.hex().removeprefix("0x")])
