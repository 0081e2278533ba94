"""Orchestrators that the operator did not name: from the signer, and from a webhook."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from harness.devnet import devnet_process
from harness.gateway import GatewayProcess, gateway_process
from harness.serving import serving
from harness.waiting import eventually


async def known(gateway: GatewayProcess) -> set[str]:
    return {entry["addr"] for entry in (await gateway.get("orchestrators"))["orchestrators"]}


@pytest.mark.asyncio
async def test_orchestrators_come_from_the_signer_or_from_a_webhook_that_may_change_its_list(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    listed: list[dict[str, str]] = []

    async def webhook(_: web.Request) -> web.Response:
        return web.json_response(listed)

    async with (
        serving(web.get("/", webhook)) as url,
        devnet_process(tmp_path, "-orchestrators", "2") as devnet,
    ):
        addrs = [orchestrator["addr"] for orchestrator in devnet["orchestrators"]]
        paid = ("-remoteSignerUrl", devnet["signer"], "-maxPricePerUnit", "0.001ETH")
        ledger = ("-ledger", str(tmp_path / "signer.sqlite3"))
        async with gateway_process(tmp_path, *paid, *ledger, devnet=False) as gateway:
            assert await known(gateway) == set(addrs)

        listed.append({"address": addrs[0]})
        webhook_flags = ("-orchWebhookUrl", url, "-discoveryInterval", "200ms")
        async with gateway_process(tmp_path, *paid, *webhook_flags, *ledger, devnet=False) as gateway:
            assert await known(gateway) == {addrs[0]}
            listed.append({"address": addrs[1]})

            async def both() -> bool:
                return await known(gateway) == set(addrs)

            await eventually(both, what="the second one")
            listed.clear()

            async def noted() -> bool:
                (source,) = (await gateway.get("orchestrators"))["sources"]
                return source["error"] == "the list is empty" and source["listed"] == 2

            await eventually(noted, what="the empty list, which loses nobody")
            assert await known(gateway) == set(addrs)
