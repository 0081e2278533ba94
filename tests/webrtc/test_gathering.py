from __future__ import annotations

import asyncio
import random
import select
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import structlog
from aioice import Candidate

from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.errors import ConnectFailed, OfferRefused
from gateway.webrtc.gathering import advertised, host_candidate
from gateway.webrtc.ice_servers import IceServer
from gateway.webrtc.ice_settings import IceSettings
from gateway.webrtc.publisher import Publisher
from gateway.webrtc.udp import local_addresses
from harness.insides import selected_pair, sockets_of
from harness.waiting import SLACK, eventually, within
from tests.webrtc.loopback import CodedTrack, aiortc_client, coded_pictures, offer_of, take_answer

log = structlog.get_logger()
TURN = "/usr/bin/turnserver"


async def an_offer() -> str:
    client = aiortc_client()
    client.addTrack(CodedTrack(coded_pictures(1)))
    offer = await offer_of(client)
    await client.close()
    return offer


def candidates(answer: str) -> list[Candidate]:
    lines = [line for line in answer.splitlines() if line.startswith("a=candidate:")]
    return [Candidate.from_sdp(line.removeprefix("a=candidate:")) for line in lines]


@asynccontextmanager
async def answered(ice: IceSettings, **config: float) -> AsyncIterator[Publisher]:
    publisher = await Publisher.answer_offer(
        await an_offer(), config=WebRtcConfig(ice=ice, **config), sink=lambda frame: None, log=log
    )
    try:
        yield publisher
    finally:
        await publisher.close()


def test_public_addresses_come_first_and_once() -> None:
    hosts = [
        host_candidate("10.0.0.5", 40_000, 65535),
        host_candidate("172.17.0.1", 40_000, 65533),
        host_candidate("192.0.2.9", 40_001, 65531),
        host_candidate("2001:db8::5", 40_000, 65529),
        host_candidate("127.0.0.1", 40_000, 65527),
    ]
    found = advertised(hosts, ("192.0.2.9", "2001:db8::9"))
    assert [(one.host, one.port) for one in found] == [
        ("192.0.2.9", 40_000),
        ("192.0.2.9", 40_001),
        ("2001:db8::9", 40_000),
        ("10.0.0.5", 40_000),
        ("172.17.0.1", 40_000),
        ("2001:db8::5", 40_000),
        ("127.0.0.1", 40_000),
    ]
    assert found[0].priority > max(host.priority for host in hosts)


def test_interfaces_are_chosen_by_name_or_address() -> None:
    assert local_addresses(["lo"]) == ["127.0.0.1"]
    assert local_addresses(["no-such-interface"]) == ["127.0.0.1"]
    assert local_addresses(["::1"]) == ["127.0.0.1", "::1"]
    assert local_addresses(["::1"], loopback=False) == ["::1"]
    assert local_addresses(["127.0.0.1"]) == ["127.0.0.1"]
    everything = local_addresses()
    assert everything[-1] == "127.0.0.1"
    for host in everything[:-1]:
        assert local_addresses([host], loopback=False) == [host]


@pytest.mark.asyncio
async def test_ports_come_from_the_range_and_its_end_is_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        first = probe.getsockname()[1] + 1
    ice = IceSettings(interfaces=("lo",), udp_ports=(first, first + 1))
    async with answered(ice) as one, answered(ice) as two:
        ports = [candidate.port for peer in (one, two) for candidate in candidates(peer.answer)]
        assert sorted(ports) == [first, first + 1]
        with pytest.raises(OfferRefused) as refused:
            async with answered(ice):
                pass
        assert refused.value.code == "no_udp_port"
    async with answered(ice):
        pass


@pytest.mark.asyncio
async def test_a_failure_says_which_ports_to_open() -> None:
    ice = IceSettings(interfaces=("lo",), udp_ports=(20_000, 60_000), public_ips=("192.0.2.1",))
    async with answered(ice, handshake_timeout=0.2) as publisher:
        with pytest.raises(ConnectFailed, match=r"UDP ports 20000-60000 .* check that -icePublicIP"):
            await publisher.connect()
    async with answered(IceSettings(), handshake_timeout=0.2) as publisher:
        with pytest.raises(ConnectFailed, match="set -icePublicIP if the gateway is behind a NAT"):
            await publisher.connect()


@pytest.mark.asyncio
async def test_a_peer_on_this_machine_is_offered_loopback_first() -> None:
    async with answered(IceSettings()) as publisher:
        found = candidates(publisher.answer)
        assert found[0].host == "127.0.0.1"
        assert found[0].priority == max(one.priority for one in found)


@pytest.mark.asyncio
async def test_servers_that_never_answer_cost_a_second_at_most() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        servers = (IceServer("stun", "127.0.0.1", port), IceServer("turn", "127.0.0.1", port, None, "u", "p"))
        started = time.monotonic()
        async with answered(IceSettings(servers=servers)):
            assert 0.9 < time.monotonic() - started < SLACK
        silent.setblocking(False)
        while select.select([silent], [], [], 0)[0]:
            silent.recv(2048)
        async with answered(IceSettings(servers=servers, public_ips=("192.0.2.1",))):
            assert not select.select([silent], [], [], 0.1)[0], (
                "where an address is advertised nobody is asked"
            )


@asynccontextmanager
async def coturn() -> AsyncIterator[IceServer]:
    # not one of those that systems give to whoever asks for any: it would be taken before the server has it
    port = random.randrange(20_000, 32_000)
    options = (
        f"-n --no-cli --no-tcp --no-tls --no-dtls --log-file=stdout --pidfile= --allow-loopback-peers "
        f"--listening-ip=127.0.0.1 --relay-ip=127.0.0.1 --listening-port={port} "
        "--lt-cred-mech --user=gate:secret --realm=test"
    )
    process = await asyncio.create_subprocess_exec(
        TURN, *options.split(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    try:
        yield IceServer("turn", "127.0.0.1", port, None, "gate", "secret")
    finally:
        process.terminate()
        await within(process.communicate())


@pytest.mark.asyncio
async def test_media_comes_through_a_turn_server_where_there_is_no_other_way() -> None:
    async with coturn() as server, AsyncExitStack() as stack:
        config = WebRtcConfig(ice=IceSettings(servers=(server,)), handshake_timeout=10)
        client = aiortc_client()
        stack.push_async_callback(client.close)
        client.addTrack(CodedTrack(coded_pictures(30)))
        offer = await offer_of(client)
        frames: list[object] = []
        async with asyncio.timeout(50):
            while True:
                publisher = await Publisher.answer_offer(offer, config=config, sink=frames.append, log=log)
                if any(candidate.type == "relay" for candidate in candidates(publisher.answer)):
                    break
                await publisher.close()  # the server is not up yet
        stack.push_async_callback(publisher.close)
        lines = publisher.answer.split("\r\n")
        relayed = [line for line in lines if not line.startswith("a=candidate") or " relay " in line]
        # A check of the gateway's own sockets must not find the direct way.
        sockets = sockets_of(publisher.ice)
        for protocol in list(sockets):
            if protocol.local_candidate.type != "relay":
                sockets.remove(protocol)
                await protocol.close()
        await take_answer(client, "\r\n".join(relayed))
        await publisher.connect()
        assert server.host in str(publisher.ice.selected)
        assert selected_pair(publisher.ice).local_candidate.type == "relay"
        await eventually(lambda: len(frames) >= 30)
        assert publisher.stats().damaged_frames == 0
