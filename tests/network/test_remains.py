"""What is told to an orchestrator of a job that nobody goes on with."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from gateway.network.remains import OrchestratorRemains
from gateway.orchestrator.job_start import JobUrls
from gateway.stream.seam import Json
from gateway.trickle.left_channels import LeftChannels
from harness.serving import serving
from harness.waiting import eventually


@pytest.mark.asyncio
async def test_the_channels_to_the_worker_are_closed_at_once_or_when_they_can_be() -> None:
    deleted: list[str] = []
    away = "in"

    async def delete(request: web.Request) -> web.Response:
        if request.match_info["name"] == away:
            assert request.transport is not None
            request.transport.abort()
        deleted.append(request.match_info["name"])
        return web.Response()

    left = LeftChannels(retry_every=0.01)
    async with serving(web.delete("/{name}", delete)) as url, aiohttp.ClientSession() as http:
        orchestrators = SimpleNamespace(http_for=lambda info: http)
        network = SimpleNamespace(orchestrators=orchestrators, left_channels=left)
        urls = JobUrls(f"{url}/in", f"{url}/out", f"{url}/control", f"{url}/events", "job")
        details: Json = {"urls": asdict(urls)}
        remains = OrchestratorRemains(
            cast(Any, SimpleNamespace(default=network)),
            *cast(Any, [None, details, None, None, SimpleNamespace(orchestrator_info=None)]),
        )
        await remains.give_back()
        assert set(deleted) == {"in", "control"}
        assert len(left) == 1
        away = ""
        await eventually(lambda: not len(left), what="the one that was not answered")
        await left.close()
