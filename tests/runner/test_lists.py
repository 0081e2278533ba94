"""The lists of live runners that are not an orchestrator's own."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from gateway.aio.inside import PUBLIC
from gateway.orchestrator.errors import OrchestratorError
from gateway.runner.client import RunnerClient
from gateway.runner.lists import DiscoveryService, SignerRunners
from gateway.runner.offer import RunnerOffer
from harness.serving import serving
from tests.signer_client.servers import answers, fails, signer

APPS = frozenset({"acme/b", "acme/a"})


def entry(*apps: str) -> dict[str, Any]:
    runners = [{"app": app, "url": f"http://127.0.0.1:8935/apps/{app[-1]}/session"} for app in apps]
    return {"address": "http://127.0.0.1:8935", "runners": runners}


def shown(offers: list[RunnerOffer]) -> list[str]:
    return [offer.app for offer in offers]


@pytest.mark.asyncio
async def test_the_signer_is_asked_for_the_apps_and_what_else_it_lists_is_left_out() -> None:
    async with signer(answers([entry("acme/a", "acme/c"), entry("acme/b"), 7])) as (client, server):
        runners = SignerRunners(client, reached_inside=lambda: False)
        found = await runners.offers(APPS)
    assert shown(found) == ["acme/a", "acme/b"]
    assert all(one.reach == PUBLIC for one in found)
    assert server.requests[0].query.getall("app") == ["acme/a", "acme/b"]


@pytest.mark.asyncio
async def test_runners_of_a_signer_inside_may_each_lead_to_their_own_host() -> None:
    async with signer(answers([entry("acme/a")])) as (client, _):
        (offer,) = await SignerRunners(client, reached_inside=lambda: True).offers(APPS)
    assert offer.reach != PUBLIC


@pytest.mark.asyncio
async def test_a_signer_without_a_list_is_asked_once() -> None:
    async with signer(fails(503)) as (client, server):
        with pytest.raises(OrchestratorError, match="the signer lists no runners"):
            await SignerRunners(client, reached_inside=lambda: False).offers(APPS)
    assert len(server.requests) == 1


@pytest.mark.asyncio
async def test_a_signer_may_take_longer_for_its_list_than_for_a_payment() -> None:
    async with signer(answers([entry("acme/a")]), timeout=1e-9) as (client, _):
        assert shown(await SignerRunners(client, reached_inside=lambda: False).offers(APPS)) == ["acme/a"]


@pytest.mark.asyncio
async def test_a_discovery_service_lists_many_orchestrators_runners() -> None:
    async def listed(_: web.Request) -> web.Response:
        return web.json_response([entry("acme/c", "acme/a"), entry("acme/b")])

    client = RunnerClient(sender="")
    async with serving(web.get("/all", listed)) as url:
        assert shown(await DiscoveryService(client, f"{url}/all").offers(APPS)) == ["acme/a", "acme/b"]
        assert await DiscoveryService(client, f"{url}/none").offers(APPS) == []
    await client.close()
