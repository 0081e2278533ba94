"""Real connections: consent (RFC 7675), and what others than the peer may send and get."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import aioice
import pytest
from aioice import stun
from aioice.ice import CandidatePair
from typing_extensions import override

from gateway.aio.tasks import cancel, spawn
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.ice import ConsentTiming, IceConnection
from gateway.webrtc.ice_settings import IceSettings
from gateway.webrtc.paths import MAX_ADDRESSES, MAX_CLAIMS
from gateway.webrtc.sdp import MAX_CANDIDATES, IceCredentials, parse_candidate
from gateway.webrtc.udp import CHECK_REPEATS
from gateway.webrtc.udp_mux import UdpMux
from harness.cost import TURN, cpu_seconds
from harness.ice import prepare_clients
from harness.insides import checked_pairs, selected_pair, sockets_of
from harness.waiting import SLACK, eventually, within

FIRST_TIMEOUT = 0.05
"""Seconds that a check waits before it is sent again; 7 times that in all."""
PORT_EACH = WebRtcConfig()
CONSENT = ConsentTiming(interval=0.02, life=1.0)

prepare_clients()


class Peer(aioice.Connection):
    """A client that answers checks through `answer`."""

    def __init__(self) -> None:
        super().__init__(ice_controlling=True)
        self.answers = 0
        self.answer: Callable[..., None] = super().request_received

    @override
    def request_received(self, *request: Any) -> None:
        self.answers += 1
        self.answer(*request)


@asynccontextmanager
async def unconnected(
    config: WebRtcConfig = PORT_EACH,
) -> AsyncIterator[tuple[Peer, IceConnection, list[str]]]:
    """A client, the gateway's side, and why that says that it ended."""
    peer, ended = Peer(), list[str]()
    own = IceConnection(
        config,
        IceCredentials(peer.local_username, peer.local_password, False),
        on_datagram=lambda data: None,
        on_closed=ended.append,
        consent=CONSENT,
    )
    peer.remote_username, peer.remote_password = own.local_username, own.local_password
    for one in (peer, own):
        await one.gather_candidates()
    try:
        yield peer, own, ended
    finally:
        await within(own.shut())
        await within(peer.close())


@asynccontextmanager
async def connected(
    config: WebRtcConfig = PORT_EACH,
) -> AsyncIterator[tuple[Peer, IceConnection, list[str]]]:
    async with unconnected(config) as (peer, own, ended):
        for one, other in ((peer, own), (own, peer)):
            for candidate in one.local_candidates:
                await other.add_remote_candidate(candidate)
        await within(asyncio.gather(peer.connect(), own.connect()))
        yield peer, own, ended


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stun, "RETRY_RTO", FIRST_TIMEOUT)


@pytest.mark.asyncio
async def test_a_peer_that_falls_silent_is_gone() -> None:
    async with connected() as (peer, _, ended):
        checks = peer.answers
        await eventually(lambda: peer.answers > checks + 5)
        assert not ended
        peer.answer = lambda *request: None
        silent = time.monotonic()
        await eventually(lambda: ended)
        assert ended == ["the peer stopped answering (ICE consent expired)"]
        assert time.monotonic() - silent > CONSENT.life - 2 * CONSENT.interval


@pytest.mark.asyncio
async def test_a_peer_that_answers_late_is_there() -> None:
    async with connected() as (peer, own, ended):
        loop, answer = asyncio.get_running_loop(), peer.answer
        peer.answer = partial(loop.call_later, 2 * FIRST_TIMEOUT, answer)  # type: ignore[assignment]
        began, checks = time.monotonic(), peer.answers
        await eventually(lambda: peer.answers > checks + 10 and time.monotonic() - began > 2 * CONSENT.life)
        assert not ended
        assert own.selected is not None


class Stranger(socket.socket):
    """A socket on loopback that counts the datagrams that come to it."""

    def __init__(self) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self.bind(("127.0.0.1", 0))
        self.setblocking(False)
        self._count = 0

    @property
    def port(self) -> int:
        return int(self.getsockname()[1])

    @property
    def count(self) -> int:
        with suppress(BlockingIOError):
            while self.recv(2048):
                self._count += 1
        return self._count


def loopback_port(own: IceConnection) -> int:
    return next(one.port for one in own.local_candidates if one.host == "127.0.0.1")


def check(own: IceConnection, peer: Peer) -> bytes:
    """A check of the peer's, with its password."""
    request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{own.local_username}:{peer.local_username}"
    request.attributes["PRIORITY"] = 1
    request.attributes["ICE-CONTROLLING"] = 1
    request.add_message_integrity(own.local_password.encode())
    return bytes(request)


@pytest.mark.asyncio
async def test_addresses_that_an_offer_names_get_few_datagrams() -> None:
    named = [Stranger() for _ in range(40)]
    async with unconnected() as (_, own, _):
        for other in named:
            candidate = parse_candidate(f"1 1 udp 1 127.0.0.1 {other.port} typ host")
            assert candidate is not None
            await own.add_remote_candidate(candidate)
        assert len(own.remote_candidates) == MAX_CANDIDATES
        connecting = spawn(own.connect(), name="connect")
        failed = CandidatePair.State.FAILED
        await eventually(lambda: all(pair.state is failed for pair in checked_pairs(own)))
        counts = [other.count for other in named]
        assert counts == [1 + CHECK_REPEATS] * MAX_CANDIDATES + [0] * (len(named) - MAX_CANDIDATES)
        await cancel(connecting)
    for other in named:
        other.close()


@pytest.mark.asyncio
async def test_only_addresses_that_answered_a_check_are_listened_to() -> None:
    async with connected() as (peer, own, _):
        came = list[bytes]()
        own.on_datagram = came.append
        port = loopback_port(own)
        hello, forged = b"\x16" * 20, b"\x15" * 20
        with Stranger() as other:
            other.sendto(forged, ("127.0.0.1", port))
            # a copy of the peer's check makes its sender nobody, who does not answer the gateway's own
            other.sendto(check(own, peer), ("127.0.0.1", port))
            other.sendto(forged, ("127.0.0.1", port))
            await eventually(lambda: other.count >= 2, what="the response and a check of the gateway's")
            await peer.send(hello)
            await eventually(lambda: came, what="what the peer sent")
            other.sendto(forged, ("127.0.0.1", port))
        await peer.send(hello)
        await eventually(lambda: len(came) == 2)
        assert came == [hello] * 2


@pytest.mark.asyncio
async def test_hundreds_of_addresses_of_one_peer_take_the_room_of_a_few() -> None:
    async with connected() as (peer, own, ended):
        protocol, copy = selected_pair(own).protocol, stun.parse_message(check(own, peer))
        selected = own.selected

        def come_from(port: int) -> None:
            own.check_incoming(copy, ("127.0.0.1", port), protocol)

        assert cpu_seconds(lambda: [come_from(port) for port in range(1, 201)], times=1) < SLACK * TURN
        assert len(own.remote_candidates) <= MAX_ADDRESSES
        assert own.selected == selected
        assert not ended


@asynccontextmanager
async def shared_port() -> AsyncIterator[tuple[UdpMux, WebRtcConfig]]:
    with Stranger() as probe:
        port = probe.port
    mux = await UdpMux.open(lambda: ["127.0.0.1"], port)
    yield mux, replace(PORT_EACH, ice=IceSettings(mux_port=port), mux=mux)
    assert mux.routes == 0
    mux.close()


@pytest.mark.asyncio
async def test_copies_of_a_check_move_no_address_on_a_shared_port() -> None:
    async with (
        shared_port() as (mux, config),
        connected(config) as (one, own_of_one, _),
        connected(config) as (two, own_of_two, _),
    ):
        came: dict[str, list[bytes]] = {"one": [], "two": []}
        own_of_one.on_datagram, own_of_two.on_datagram = came["one"].append, came["two"].append
        copy, port = check(own_of_one, one), ("127.0.0.1", loopback_port(own_of_one))
        # from hundreds of addresses, and in the name of the other peer
        for _ in range(300):
            with Stranger() as other:
                other.sendto(copy, port)
                other.sendto(b"\x15" * 20, port)
            await asyncio.sleep(0)  # else the kernel drops what it cannot hold
        selected_pair(two).protocol.transport.sendto(copy, port)
        await one.send(b"\x16 one")
        await two.send(b"\x16 two")
        await eventually(lambda: all(came.values()), what="what both sent")
        assert came == {"one": [b"\x16 one"], "two": [b"\x16 two"]}
        assert mux.routes <= 2 + 3 * MAX_CLAIMS


@pytest.mark.asyncio
async def test_a_shared_port_follows_a_peer_that_answers_from_its_new_address() -> None:
    async with shared_port() as (_, config), connected(config) as (peer, own, _):
        came = list[bytes]()
        own.on_datagram = came.append
        for protocol in await peer.get_component_candidates(1, ["127.0.0.1"]):
            moved = next(one for one in sockets_of(peer) if one.local_candidate is protocol)
        moved.send_stun(stun.parse_message(check(own, peer)), ("127.0.0.1", loopback_port(own)))
        moved.transport.sendto(b"\x16 moved", ("127.0.0.1", loopback_port(own)))
        await eventually(lambda: came == [b"\x16 moved"], what="what came before it answered")
