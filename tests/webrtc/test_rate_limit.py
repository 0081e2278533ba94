"""What a publisher is told where the way beyond the gateway takes less than its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from aiortc.rtp import RtcpPsfbPacket, unpack_remb_fci

from gateway.webrtc import rtcp
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.negotiation import Negotiation
from gateway.webrtc.publisher import Publisher

OFFER = Path(__file__).parents[1] / "data" / "offers" / "chromium-camera-sendonly.sdp"
LOG = structlog.get_logger("test")


class Sent:
    """Stands where the transport is: keeps what is sent."""

    def __init__(self) -> None:
        self.rtcp: list[bytes] = []

    def send_rtcp(self, packet: bytes) -> None:
        self.rtcp.append(packet)

    async def close(self) -> None:
        pass

    @property
    def rates(self) -> list[int]:
        packets = [one for data in self.rtcp for one in rtcp.parse(data)]
        found = [one for one in packets if isinstance(one, RtcpPsfbPacket) and one.fmt == 15]
        return [unpack_remb_fci(one.fci)[0] for one in found]


@pytest.mark.asyncio
async def test_it_is_told_the_lower_rate_until_the_limit_is_lifted() -> None:
    sent = Sent()
    negotiation = Negotiation.of(OFFER.read_text(), publishing=True)
    publisher = Publisher(negotiation, WebRtcConfig(), lambda frame: None, LOG, transport=sent)  # type: ignore[arg-type]
    kind = negotiation.video.codec.payload_type
    publisher.on_rtp(bytes([0x80, 0x80 | kind]) + bytes(10) + b"\x65")
    publisher._tick(1e6)
    assert sent.rates == [], "with transport-wide feedback it judges its own way by itself"
    publisher.limit_bitrate(700_000)
    publisher._tick(2e6)
    assert sent.rates == [pytest.approx(700_000, rel=0.01)]
    publisher.limit_bitrate(None)
    publisher._tick(3e6)
    assert len(sent.rates) == 1
    await publisher.close()
