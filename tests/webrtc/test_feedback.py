"""What a publisher is sent, and whose packets are taken, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from aiortc.rtp import (
    RTCP_PSFB_APP,
    AnyRtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtpPacket,
    unpack_remb_fci,
)

from gateway.media.frames import AccessUnit, Frame
from gateway.media.rtp_h264 import packetize
from gateway.webrtc import rtcp
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.negotiation import Negotiation
from gateway.webrtc.publisher import KEY_FRAME_EVERY, Publisher
from tests.webrtc.loopback import coded_pictures, nals_of

CAMERA = Path(__file__).parents[1] / "data" / "offers" / "chromium-camera-sendonly.sdp"
LOG = structlog.get_logger("test")
RID_EXTENSION = 10


class Sent:
    """Stands where the transport is: keeps what is sent."""

    def __init__(self) -> None:
        self.rtcp: list[bytes] = []

    def send_rtcp(self, packet: bytes) -> None:
        self.rtcp.append(packet)

    async def close(self) -> None:
        pass

    @property
    def packets(self) -> list[AnyRtcpPacket]:
        return [one for data in self.rtcp for one in rtcp.parse(data)]

    def feedback(self, fmt: int) -> list[RtcpPsfbPacket]:
        return [one for one in self.packets if isinstance(one, RtcpPsfbPacket) and one.fmt == fmt]

    @property
    def reports(self) -> list[RtcpReceiverInfo]:
        return [block for one in self.packets if isinstance(one, RtcpRrPacket) for block in one.reports]

    @property
    def key_frames_asked(self) -> int:
        return len(self.feedback(rtcp.PLI))

    @property
    def rates(self) -> list[int]:
        return [unpack_remb_fci(one.fci)[0] for one in self.feedback(RTCP_PSFB_APP)]


class Fed:
    """A publisher without a peer: its packets are given to it."""

    def __init__(self, offer: str) -> None:
        self.frames: list[Frame] = []
        self.sent = Sent()
        negotiation = Negotiation.of(offer, publishing=True)
        self.kind = negotiation.video.codec.payload_type
        transport = self.sent
        self.publisher = Publisher(negotiation, WebRtcConfig(), self.frames.append, LOG, transport=transport)  # type: ignore[arg-type]
        self._numbers: dict[int, int] = {}

    def skip(self, numbers: int, *, ssrc: int = 1) -> None:
        """Have its packets' sequence numbers leave out so many."""
        self._numbers[ssrc] += numbers

    def picture(self, nals: list[bytes], at: int, *, ssrc: int = 1, rid: str = "") -> None:
        """Give it one picture's packets; those of a layer that is named carry its name."""
        payloads = packetize(nals)
        for place, payload in enumerate(payloads):
            number = self._numbers.get(ssrc, 0)
            self._numbers[ssrc] = number + 1
            packet = RtpPacket(self.kind, int(place == len(payloads) - 1), number, at * 3000, ssrc, payload)
            data = packet.serialize()
            if rid:
                name = bytes([RID_EXTENSION << 4 | len(rid) - 1]) + rid.encode()
                name += bytes(-len(name) % 4)
                block = b"\xbe\xde" + (len(name) // 4).to_bytes(2, "big") + name
                data = bytes([data[0] | 0x10]) + data[1:12] + block + data[12:]
            self.publisher.on_rtp(data)

    @property
    def units(self) -> list[AccessUnit]:
        return [frame for frame in self.frames if isinstance(frame, AccessUnit)]


def simulcast(*rids: str) -> str:
    lines = [f"a=rid:{rid} send" for rid in rids] + [f"a=simulcast:send {';'.join(rids)}"]
    offer = CAMERA.read_text().rstrip()
    assert f"a=extmap:{RID_EXTENSION} urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id" in offer
    audio, video = offer.split("m=video")
    assert "m=audio" in audio
    return "\r\n".join([f"{audio}m=video{video}", *lines, ""])


PICTURES = [nals_of(picture) for picture in coded_pictures(6, gop=6)]


@pytest.mark.asyncio
async def test_of_simulcast_layers_only_the_one_agreed_on_is_taken() -> None:
    fed = Fed(simulcast("hi", "lo"))
    for at, nals in enumerate(PICTURES):
        fed.picture(nals, at, ssrc=2, rid="lo")
        fed.picture(nals, at, ssrc=1, rid="hi" if at < 2 else "")  # named until it was reported on
    assert [unit.pts for unit in fed.units] == [at * 3000 for at in range(6)]
    assert fed.publisher.stats().packets_lost == 0
    await fed.publisher.close()


@pytest.mark.asyncio
async def test_a_sender_left_with_one_layer_need_not_name_it() -> None:
    fed = Fed(simulcast("hi", "lo"))
    for at, nals in enumerate(PICTURES):
        fed.picture(nals, at)
    assert len(fed.units) == 6
    await fed.publisher.close()


@pytest.mark.asyncio
async def test_viewers_have_a_key_frame_asked_for_at_most_every_two_seconds() -> None:
    fed = Fed(CAMERA.read_text())
    for at, nals in enumerate(PICTURES):
        fed.picture(nals, at)
    for _ in range(5):
        fed.publisher.request_key_frame(KEY_FRAME_EVERY)
    assert fed.sent.key_frames_asked == 0, "the first picture of a stream is on its way as it is"
    fed.publisher._last_request -= KEY_FRAME_EVERY
    for _ in range(5):
        fed.publisher.request_key_frame(KEY_FRAME_EVERY)
    assert fed.sent.key_frames_asked == 1
    await fed.publisher.close()


@pytest.mark.asyncio
async def test_a_publisher_is_told_the_lower_rate_until_the_limit_is_lifted() -> None:
    fed = Fed(CAMERA.read_text())
    publisher, sent = fed.publisher, fed.sent
    fed.picture(PICTURES[0], 0)
    publisher._tick(1e6)
    assert sent.rates == [], "with transport-wide feedback it judges its own way by itself"
    publisher.limit_bitrate(700_000)
    publisher._tick(2e6)
    assert sent.rates == [pytest.approx(700_000, rel=0.01)]
    publisher.limit_bitrate(None)
    publisher._tick(3e6)
    assert len(sent.rates) == 1
    await publisher.close()


@pytest.mark.asyncio
async def test_numbers_that_start_over_are_no_loss_in_any_report() -> None:
    fed = Fed(CAMERA.read_text())
    for second, skipped in enumerate((0, 20_000, 0, 40_000, 0)):
        for at, nals in enumerate(PICTURES):
            fed.picture(nals, second * 30 + at)
            if at == 2:
                fed.skip(skipped)
        fed.publisher._tick(1e6 + second)
    assert [(one.packets_lost, one.fraction_lost) for one in fed.sent.reports] == [(0, 0)] * 5
    assert fed.publisher.stats().packets_lost == 0
    await fed.publisher.close()
