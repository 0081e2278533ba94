"""Media's way to the gateway: one port for all, and networks that go away."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.clients.gateway import eventually, gateway_process
from tests.clients.webrtc import WhepViewer, WhipPublisher
from tests.e2e.test_loop import clean_audits, ended


class Cable:
    """What pulls a client's network plug: nothing goes out and nothing comes in, and no socket closes."""

    def __init__(self, publisher: WhipPublisher) -> None:
        (transceiver,) = publisher.peer.getTransceivers()
        connection = transceiver.sender.transport.transport._connection
        self._protocols: list[Any] = connection._protocols

    def pull(self) -> None:
        for protocol in self._protocols:
            protocol.datagram_received = lambda data, addr: None
            protocol.transport.sendto = lambda data, addr=None: None

    def plug(self) -> None:
        for protocol in self._protocols:
            del protocol.datagram_received
            del protocol.transport.sendto


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
            cable = Cable(publisher)
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
