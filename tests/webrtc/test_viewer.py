"""What a viewer costs, and which packets a picture becomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest
import structlog

from gateway.media.fanout import Fanout
from gateway.media.frames import AccessUnit
from gateway.webrtc import rtcp
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.negotiation import Negotiation
from gateway.webrtc.srtp import Packet
from gateway.webrtc.transport import SecureTransport
from gateway.webrtc.viewer import BURST, MAX_BACKLOG, Viewer
from harness.cost import TURN, cpu_seconds
from harness.waiting import SLACK, eventually
from tests.media.test_rtp_h264 import PPS, SPS
from tests.webrtc.test_negotiation import offer, video

NEGOTIATION = Negotiation.of(offer(video(direction="recvonly")), publishing=False)


class Sent:
    """Takes what a viewer sends in its transport's place."""

    congested = False
    last_received = float("inf")

    def __init__(self) -> None:
        self.packets: list[Packet] = []

    def send_rtp(self, packets: Sequence[Packet]) -> None:
        self.packets += packets

    def send_rtcp(self, packet: bytes) -> None:
        pass

    async def close(self) -> None:
        pass


def connected(transport: Sent) -> Viewer:
    viewer = Viewer(
        NEGOTIATION, WebRtcConfig(), structlog.get_logger(), transport=cast(SecureTransport, transport)
    )
    viewer.start()
    return viewer


def header(packet: Packet) -> tuple[bool, int, int]:
    """Marker, sequence number, timestamp."""
    data = packet[0]
    return bool(data[1] & 0x80), int.from_bytes(data[2:4], "big"), int.from_bytes(data[4:8], "big")


def header_ssrc(packet: Packet) -> int:
    return int.from_bytes(packet[0][8:12], "big")


@pytest.mark.asyncio
async def test_a_large_picture_for_many_viewers_takes_one_short_turn() -> None:
    sent = [Sent() for _ in range(200)]
    viewers = [connected(transport) for transport in sent]
    fanout = Fanout()
    for viewer in viewers:
        fanout.add(viewer)
        viewer.send_video([bytes(1000)] * (BURST // 1000 + 100), 0, False)  # each has something to wait for
    picture = AccessUnit([SPS, PPS, b"\x65" + bytes(8 << 20)], 0, 0, True)
    assert cpu_seconds(lambda: fanout.push(picture), times=1) < SLACK * TURN
    assert all(viewer.congested() for viewer in viewers)
    for viewer in viewers:
        await viewer.close()


@pytest.mark.asyncio
async def test_what_waited_goes_out_in_order_with_a_marker_on_each_last_packet() -> None:
    transport = Sent()
    viewer = connected(transport)
    pictures = [[bytes([number]) * 1000] * 80 for number in range(5)]
    for number, payloads in enumerate(pictures):
        viewer.send_video(payloads, number * 3000, number == 0)
    assert 0 < len(transport.packets) < 5 * 80
    await eventually(lambda: len(transport.packets) == 5 * 80, what="the backlog", every=0.01)
    assert [payload for _, payload in transport.packets] == [one for part in pictures for one in part]
    headers = [header(packet) for packet in transport.packets]
    first = headers[0][1]
    assert headers == [(at % 80 == 79, first + at & 0xFFFF, at // 80 * 3000) for at in range(5 * 80)]
    assert (viewer.stats().packets, viewer.stats().bytes, viewer.stats().frames) == (400, 400_000, 5)
    assert not viewer.congested()
    await viewer.close()


@pytest.mark.asyncio
async def test_only_packets_that_were_sent_are_sent_again() -> None:
    transport = Sent()
    viewer = connected(transport)
    viewer.send_video([bytes(1000)] * (MAX_BACKLOG // 1000 + 200), 0, True)
    assert viewer.congested()
    known = len(transport.packets)
    first = header(transport.packets[0])[1]
    missing = [first - 1, first, first + known - 1, first + known]
    for number in missing:
        viewer.on_rtcp(rtcp.nack(1, header_ssrc(transport.packets[0]), [number & 0xFFFF]))
    assert transport.packets[known:] == [transport.packets[0], transport.packets[known - 1]]
    await viewer.close()
