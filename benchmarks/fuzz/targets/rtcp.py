"""Compound RTCP packets."""

from __future__ import annotations

from aiortc.rtp import RtcpReceiverInfo

from benchmarks.fuzz.target import Target
from gateway.webrtc import rtcp

REPORT = RtcpReceiverInfo(
    ssrc=2, fraction_lost=1, packets_lost=3, highest_sequence=4, jitter=5, lsr=6, dlsr=7
)


def check(data: bytes) -> None:
    for packet in rtcp.parse(data):
        repr(packet)


RTCP = Target(
    "rtcp",
    check,
    limit=2_048,
    seeds=[
        rtcp.pli(1, 2),
        rtcp.nack(1, 2, range(100)),
        rtcp.remb(1, [2], 10**6),
        rtcp.receiver_report(1, [REPORT] * 3),
        rtcp.sender_report(1, ntp=2, timestamp=3, packets=4, octets=5, cname="c"),
    ],
    words=[b"\x81\xc9\x00\x07", b"\x8f\xcd\x00\x05", b"\x80\xca\x00\x01"],
)
