from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest
import structlog
from aiortc import RTCPeerConnection

from gateway.media.frames import AccessUnit, Frame
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.ice_settings import IceSettings
from gateway.webrtc.publisher import Publisher
from gateway.webrtc.udp import DatagramConnection
from gateway.webrtc.udp_mux import UdpMux
from harness.waiting import eventually
from tests.webrtc.loopback import CodedTrack, aiortc_client, coded_pictures, offer_of, take_answer

log = structlog.get_logger()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def publish(
    config: WebRtcConfig, frames: list[Frame], height: int
) -> tuple[RTCPeerConnection, Publisher]:
    client = aiortc_client()
    client.addTrack(CodedTrack(coded_pictures(30, size=(320, height))))
    offer = await offer_of(client)
    publisher = await Publisher.answer_offer(offer, config=config, sink=frames.append, log=log)
    await take_answer(client, publisher.answer)
    await publisher.connect()
    return client, publisher


@pytest.mark.asyncio
async def test_publishers_share_one_port_and_are_told_apart() -> None:
    port = free_port()
    mux = await UdpMux.open(lambda: ["127.0.0.1"], port)
    config = replace(WebRtcConfig(handshake_timeout=8.0), ice=IceSettings(mux_port=port), mux=mux)
    heights = [176, 192, 208]
    frames: list[list[Frame]] = [[] for _ in heights]
    peers = await asyncio.gather(
        *(publish(config, taken, height) for taken, height in zip(frames, heights, strict=True))
    )
    await eventually(lambda: min(len(taken) for taken in frames) >= 30)
    for (_, publisher), taken, height in zip(peers, frames, heights, strict=True):
        assert {line.split()[5] for line in publisher.answer.splitlines() if "a=candidate" in line} == {
            str(port)
        }
        stats = publisher.stats()
        assert (stats.height, stats.damaged_frames, publisher.garbage) == (height, 0, 0)
        assert isinstance(taken[0], AccessUnit)
    first, others = peers[0], peers[1:]
    await first[1].close()
    before = len(frames[1])
    await eventually(lambda: len(frames[1]) >= before + 10)
    for client, publisher in [first, *others]:
        await client.close()
        await publisher.close()
    assert mux.routes == 0
    mux.close()


@pytest.mark.asyncio
async def test_strangers_are_counted_and_cost_nothing() -> None:
    port = free_port()
    mux = await UdpMux.open(lambda: ["127.0.0.1"], port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for datagram in (b"", b"\x80" + bytes(20), b"\x00\x01" + bytes(30), b"\x16" * 40):
            stranger.sendto(datagram, ("127.0.0.1", port))
        await eventually(lambda: mux.strays >= 4)
    assert mux.routes == 0
    mux.close()


@pytest.mark.asyncio
async def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="UDP port"):
            await UdpMux.open(lambda: ["127.0.0.1"], other.getsockname()[1])


@pytest.mark.asyncio
async def test_the_machines_addresses_are_followed_and_peers_keep_theirs() -> None:
    port, hosts = free_port(), ["127.0.0.1"]
    mux = await UdpMux.open(lambda: hosts, port)
    config = replace(WebRtcConfig(handshake_timeout=8.0), ice=IceSettings(mux_port=port), mux=mux)
    frames: list[Frame] = []
    client, publisher = await publish(config, frames, 176)
    hosts[:] = ["127.0.0.2"]
    joined = await mux.join(DatagramConnection(ice_controlling=False), "later")
    assert [where for _, where in joined] == [("127.0.0.2", port)]
    before = len(frames)
    await eventually(lambda: len(frames) > before + 10, what="pictures on the former address")
    await publisher.close()
    await client.close()
    await eventually(lambda: is_free("127.0.0.1", port), what="the former address to be given up")
    hosts[:] = ["127.0.0.1", "127.0.0.2"]
    assert await mux.follow() is None
    assert not is_free("127.0.0.1", port)
    await joined[0][0].close()
    mux.close()


@pytest.mark.asyncio
async def test_an_address_that_comes_back_while_it_has_peers_is_used_again() -> None:
    port, hosts = free_port(), ["127.0.0.1"]
    mux = await UdpMux.open(lambda: hosts, port)
    ((earlier, _),) = await mux.join(DatagramConnection(ice_controlling=False), "earlier")
    hosts[:] = ["127.0.0.2"]
    assert await mux.follow() is None
    assert mux.routes == 1, "the earlier peer keeps its socket"
    hosts[:] = ["127.0.0.1", "127.0.0.2"]
    assert await mux.follow() is None
    joined = await mux.join(DatagramConnection(ice_controlling=False), "later")
    assert {where for _, where in joined} == {("127.0.0.1", port), ("127.0.0.2", port)}
    for protocol in (earlier, *(protocol for protocol, _ in joined)):
        await protocol.close()
    assert not is_free("127.0.0.1", port), "it is the machine's again"
    hosts[:] = ["127.0.0.2"]
    assert await mux.follow() is None
    await eventually(lambda: is_free("127.0.0.1", port), what="an address without peers to be given up")
    mux.close()


def is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
