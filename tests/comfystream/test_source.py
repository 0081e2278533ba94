"""The operator's own servers as a source of jobs: free, and only for parameters that they understand."""

from __future__ import annotations

from typing import Any, cast

import aiohttp
import pytest

from gateway.candidates.verdict import Verdict
from gateway.comfystream.resources import ComfyResources
from gateway.comfystream.servers import ComfyServers
from gateway.comfystream.source import ComfySource
from gateway.reason import Ended, EndReason, NoRoom
from gateway.stream.seam import PublishRequest
from gateway.webrtc.config import WebRtcConfig

GPUS = ("http://gpu1:8889", "http://gpu2:8889")
FAULT = Ended(EndReason.ORCHESTRATOR_LOST, "it broke")
FULL = NoRoom(EndReason.ORCHESTRATOR_LOST, "it has a stream")


def request(**params: Any) -> PublishRequest:
    return PublishRequest("cam", "cam", "1", "m", params=params)


@pytest.mark.asyncio
async def test_candidates_are_free_and_tell_bad_parameters_from_bad_servers() -> None:
    async with aiohttp.ClientSession() as http:
        servers = ComfyServers(GPUS, http)
        for url in GPUS:
            servers.server(url).healthy = True
        source = ComfySource(ComfyResources(http, servers, cast(Any, None), WebRtcConfig(), template=None))
        found = source.candidates(request())
        assert [(one.key, one.kind, one.price, one.first_payment, one.usable) for one in found] == [
            (url, "comfystream", 0, 0, True) for url in GPUS
        ]
        source.admit(request(), found)
        refused = source.candidates(request(prompt="words without a template"))
        assert {one.verdict for one in refused} == {Verdict.BAD_PARAMS}
        source.suspend(found[0], request(), FULL)
        assert all(one.usable for one in source.candidates(request()))
        source.suspend(found[0], request(), FAULT)
        assert [one.url for one in source.candidates(request()) if one.usable] == [GPUS[1]]
        assert source.reasons_not_ready() == []


@pytest.mark.asyncio
@pytest.mark.parametrize(("urls", "restart"), [(GPUS[:1], 60.0), (GPUS, 0.0)])
async def test_only_a_server_without_another_is_waited_for_to_restart(
    urls: tuple[str, ...], restart: float
) -> None:
    async with aiohttp.ClientSession() as http:
        servers = ComfyServers(urls, http)
        source = ComfySource(ComfyResources(http, servers, cast(Any, None), WebRtcConfig(), None, 60.0))
        assert {one.restart for one in source.candidates(request())} == {restart}
