"""RTCP packets (RFC 3550, RFC 4585) as the gateway writes and reads them, with aiortc's codecs underneath."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence

from aiortc import rtp
from aiortc.rtp import AnyRtcpPacket

from gateway.media.rtp import RtpPacket

RTPFB, PSFB = rtp.RTCP_RTPFB, rtp.RTCP_PSFB
NACK = rtp.RTCP_RTPFB_NACK
PLI, FIR = rtp.RTCP_PSFB_PLI, rtp.RTCP_PSFB_FIR

_NTP_EPOCH = 2_208_988_800
"""Seconds from 1900 to 1970."""


def ntp_time() -> int:
    """The wall clock as a 64-bit NTP timestamp (RFC 3550, 4)."""
    return ((time.time_ns() + _NTP_EPOCH * 1_000_000_000) << 32) // 1_000_000_000


def parse(data: bytes) -> list[AnyRtcpPacket]:
    """The packets of a compound, without those of unknown kinds; empty where it cannot be parsed."""
    try:
        return list(rtp.RtcpPacket.parse(data))
    except (ValueError, IndexError, struct.error):
        return []


def pli(sender: int, media: int) -> bytes:
    """Picture loss indication: a request for a key frame (RFC 4585, 6.3.1)."""
    return bytes(rtp.RtcpPsfbPacket(fmt=PLI, ssrc=sender, media_ssrc=media))


def fir(sender: int, media: int, number: int) -> bytes:
    """Full intra request (RFC 5104, 4.3.1): a request for a key frame; each has the next `number`."""
    fci = struct.pack("!IBxxx", media, number & 0xFF)
    return bytes(rtp.RtcpPsfbPacket(fmt=FIR, ssrc=sender, media_ssrc=0, fci=fci))


def nack(sender: int, media: int, missing: Sequence[int]) -> bytes:
    """A generic NACK (RFC 4585, 6.2.1) for rising sequence numbers; reduced to 16 bits."""
    items: list[tuple[int, int]] = []
    for number in missing:
        if items and 0 < number - items[-1][0] <= 16:
            first, mask = items[-1]
            items[-1] = (first, mask | 1 << number - first - 1)
        else:
            items.append((number, 0))
    body = b"".join(struct.pack("!HH", number & 0xFFFF, mask) for number, mask in items)
    head = struct.pack("!BBHII", 0x80 | NACK, RTPFB, 2 + len(items), sender, media)
    return head + body


def remb(sender: int, media: Sequence[int], bits_per_second: int) -> bytes:
    """REMB: the sender's maximum bit rate (draft-alvestrand-rmcat-remb)."""
    fci = rtp.pack_remb_fci(bits_per_second, list(media))
    return bytes(rtp.RtcpPsfbPacket(fmt=rtp.RTCP_PSFB_APP, ssrc=sender, media_ssrc=0, fci=fci))


def receiver_report(sender: int, reports: Sequence[rtp.RtcpReceiverInfo]) -> bytes:
    return bytes(rtp.RtcpRrPacket(ssrc=sender, reports=list(reports)))


def sender_report(ssrc: int, *, ntp: int, timestamp: int, packets: int, octets: int, cname: str) -> bytes:
    """A sender report with its source description: `timestamp` is the RTP time at `ntp`."""
    info = rtp.RtcpSenderInfo(
        ntp_timestamp=ntp,
        rtp_timestamp=timestamp & 0xFFFFFFFF,
        packet_count=packets & 0xFFFFFFFF,
        octet_count=octets & 0xFFFFFFFF,
    )
    names = rtp.RtcpSdesPacket(chunks=[rtp.RtcpSourceInfo(ssrc=ssrc, items=[(1, cname.encode())])])
    return bytes(rtp.RtcpSrPacket(ssrc=ssrc, sender_info=info)) + bytes(names)


def unwrap_rtx(packet: RtpPacket, payload_type: int, ssrc: int) -> RtpPacket | None:
    """The packet in a retransmission (RFC 4588, 4); None for padding, sent to probe the path."""
    if len(packet.payload) < 3:
        return None
    return RtpPacket(
        payload_type,
        packet.marker,
        int.from_bytes(packet.payload[:2], "big"),
        packet.timestamp,
        ssrc,
        packet.payload[2:],
    )
