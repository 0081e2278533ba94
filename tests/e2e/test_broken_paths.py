"""Paths of media to the gateway: IPv6, one UDP port for all, networks that break."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import aiohttp
import aioice.ice
import pytest
from aiortc import RTCPeerConnection

from harness.gateway import gateway_process
from harness.ice import Cable
from harness.insides import ice_of, selected_pair
from harness.waiting import eventually
from harness.webrtc import WhepViewer, WhipPublisher
from tests.e2e.test_loop import clean_audits, ended


def free_udp_port(host: str = "127.0.0.1") -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def way(peer: RTCPeerConnection) -> tuple[str, str, int]:
    """The selected pair: a client's own address, the gateway's and its port."""
    pair = selected_pair(ice_of(peer))
    return pair.local_addr[0], *pair.remote_addr


@pytest.mark.asyncio
async def test_on_one_port_a_publisher_whose_network_goes_away_may_come_back(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    port = str(free_udp_port())
    flags = ("-iceUdpMuxPort", port, "-ingestTimeout", "1s", "-iceGrace", "20s", "-livePaymentInterval", "1s")
    async with gateway_process(tmp_path, *flags) as gateway:
        async with (
            WhepViewer(http, gateway.live("cam/whep")) as viewer,
            WhipPublisher(http, gateway.live("cam/whip")) as publisher,
        ):
            assert f" {port} typ host" in publisher.peer.remoteDescription.sdp
            await eventually(lambda: viewer.shows_negative, what="the changed picture")
            cable = Cable(publisher.peer)
            cable.pull()

            async def says_so() -> bool:
                error = (await gateway.status("cam"))["error"]
                return error is not None and "broke off" in error["error_message"]

            await eventually(says_so, what="the status to say that the connection broke off")
            paid = (await gateway.status("cam"))["payments"]["accepted"]
            await asyncio.sleep(1)  # well over -ingestTimeout by now
            cable.plug()
            before = viewer.frames
            await eventually(lambda: viewer.frames > before + 30, what="the picture after the break")
            status = await gateway.status("cam")
            assert (status["state"], status["error"]) == ("live", None)
            assert status["payments"]["accepted"] > paid
            publisher.track.paused.set()
            status = await ended(gateway, "cam")
            assert status["ended"]["reason"] == "ingest_timeout"
        await clean_audits(gateway)


@pytest.mark.asyncio
@pytest.mark.parametrize("one_port", [False, True], ids=["a-port-each", "one-port"])
async def test_media_goes_over_ipv6_both_ways(
    one_port: bool, tmp_path: Path, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["::1"])
    port = free_udp_port("::1")
    flags = ("-iceInterfaces", "::1", *(("-iceUdpMuxPort", str(port)) if one_port else ()))
    async with (
        gateway_process(tmp_path, *flags) as gateway,
        WhepViewer(http, gateway.live("cam/whep")) as viewer,
        WhipPublisher(http, gateway.live("cam/whip")) as publisher,
    ):
        await eventually(lambda: viewer.shows_negative and viewer.frames > 30, what="the changed picture")
        for peer in (viewer.peer, publisher.peer):
            own, gateways, at = way(peer)
            assert (own, gateways) == ("::1", "::1")
            assert (at == port) is one_port
        assert (await gateway.status("cam"))["ingest"]["packets_lost"] == 0
