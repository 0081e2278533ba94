"""Stands where a publisher's transport is, and keeps what is sent."""

from __future__ import annotations

from aiortc.rtp import (
    RTCP_PSFB_APP,
    AnyRtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    unpack_remb_fci,
)

from gateway.webrtc import rtcp


class Sent:
    def __init__(self) -> None:
        self.rtcp: list[bytes] = []
        self.late = 0.0
        """Seconds that datagrams had been there when they were read."""

    def send_rtcp(self, packet: bytes) -> None:
        self.rtcp.append(packet)

    def arrived_at(self, now: float) -> float:
        return now - self.late

    async def close(self) -> None:
        pass

    @property
    def packets(self) -> list[AnyRtcpPacket]:
        return [one for data in self.rtcp for one in rtcp.parse(data)]

    @property
    def reports(self) -> list[RtcpReceiverInfo]:
        return [block for one in self.packets if isinstance(one, RtcpRrPacket) for block in one.reports]

    @property
    def missing(self) -> list[list[int]]:
        """The sequence numbers of each NACK."""
        kinds = [one for one in self.packets if isinstance(one, RtcpRtpfbPacket)]
        return [one.lost for one in kinds if one.fmt == rtcp.NACK]

    @property
    def key_frames_asked(self) -> int:
        return len(self._feedback(rtcp.PLI))

    @property
    def rates(self) -> list[int]:
        """What each REMB names, in bits per second."""
        return [unpack_remb_fci(one.fci)[0] for one in self._feedback(RTCP_PSFB_APP)]

    def _feedback(self, fmt: int) -> list[RtcpPsfbPacket]:
        return [one for one in self.packets if isinstance(one, RtcpPsfbPacket) and one.fmt == fmt]
