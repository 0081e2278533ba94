"""What the doctor says of the way that media takes."""

from __future__ import annotations

import pytest

from gateway.doctor.finding import Level
from gateway.doctor.paths import media_paths
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.ice_servers import IceServer
from gateway.webrtc.ice_settings import IceSettings

LOOPBACK = ("127.0.0.1",)


@pytest.mark.asyncio
async def test_what_peers_are_offered_is_shown() -> None:
    ice = IceSettings(public_ips=("203.0.113.9",))
    (found,) = await media_paths(WebRtcConfig(ice=ice), reached_from_outside=True)
    assert found.level is Level.OK
    assert "203.0.113.9:" in found.detail


@pytest.mark.asyncio
async def test_a_gateway_for_others_without_a_public_address_is_warned() -> None:
    config = WebRtcConfig(ice=IceSettings(interfaces=LOOPBACK))
    inside = await media_paths(config, reached_from_outside=False)
    outside = await media_paths(config, reached_from_outside=True)
    assert [finding.level for finding in inside] == [Level.OK]
    assert [(finding.name, finding.level) for finding in outside[1:]] == [("from outside", Level.WARNING)]


@pytest.mark.asyncio
async def test_a_server_that_does_not_answer_is_named() -> None:
    ice = IceSettings(servers=(IceServer.parse("turn:user:secret@127.0.0.1:9"),))
    config = WebRtcConfig(ice=ice, gather_timeout=0.2)
    found = {finding.name: finding for finding in await media_paths(config, reached_from_outside=True)}
    assert found["turn:127.0.0.1:9"].level is Level.WARNING
    assert "secret" not in str(found)
