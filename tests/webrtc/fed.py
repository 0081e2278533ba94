"""A publisher without a peer: a test gives it its packets, and moves its clock."""

from __future__ import annotations

import structlog
from aiortc.rtp import RtpPacket

from gateway.media.clock import VideoClock
from gateway.media.frames import AccessUnit, Frame, OpusPacket
from gateway.media.rtp_h264 import packetize
from gateway.webrtc import rtcp
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.negotiation import Negotiation
from gateway.webrtc.publisher import Publisher
from tests.webrtc.sent import Sent

RID_EXTENSION = 10


def rtp(
    kind: int,
    number: int,
    timestamp: int,
    ssrc: int,
    payload: bytes,
    *,
    marker: bool = False,
    rid: str = "",
) -> bytes:
    """An RTP packet; one of a layer that is named carries its name."""
    made = RtpPacket(kind, int(marker), number & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc, payload)
    data: bytes = made.serialize()
    if rid:
        name = bytes([RID_EXTENSION << 4 | len(rid) - 1]) + rid.encode()
        name += bytes(-len(name) % 4)
        block = b"\xbe\xde" + (len(name) // 4).to_bytes(2, "big") + name
        data = bytes([data[0] | 0x10]) + data[1:12] + block + data[12:]
    return data


def simulcast(offer: str, *rids: str) -> str:
    """A browser's offer with these layers of its video, which comes last in it."""
    lines = [f"a=rid:{rid} send" for rid in rids] + [f"a=simulcast:send {';'.join(rids)}"]
    assert f"a=extmap:{RID_EXTENSION} urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id" in offer
    audio, video = offer.rstrip().split("m=video")
    assert "m=audio" in audio
    return "\r\n".join([f"{audio}m=video{video}", *lines, ""])


class Fed:
    """What it hands out is in `frames`, what it sends in `sent`. Timestamps are those on the wire."""

    def __init__(self, offer: str, *, clock: VideoClock | None = None) -> None:
        self.frames: list[Frame] = []
        self.sent = Sent()
        self.now = 100.0
        """Seconds; it does not go by itself."""
        negotiation = Negotiation.of(offer, publishing=True)
        self._video = negotiation.video.codec.payload_type
        self._audio = negotiation.audio.codec.payload_type if negotiation.audio else None
        self.publisher = Publisher(
            negotiation,
            WebRtcConfig(),
            self.frames.append,
            structlog.get_logger("test"),
            transport=self.sent,  # type: ignore[arg-type]
            clock=clock,
            monotonic=lambda: self.now,
        )
        self._numbers: dict[int, int] = {}

    def skip(self, numbers: int, *, ssrc: int = 1) -> None:
        """Have its packets' sequence numbers leave out so many."""
        self._numbers[ssrc] += numbers

    def picture(self, nals: list[bytes], timestamp: int, *, ssrc: int = 1, rid: str = "") -> None:
        """Give it one picture's packets; those of a layer that is named carry its name."""
        payloads = packetize(nals)
        for place, payload in enumerate(payloads):
            last = place == len(payloads) - 1
            self._give(self._video, payload, timestamp, ssrc, marker=last, rid=rid)

    def sound(self, opus: bytes, timestamp: int, *, ssrc: int = 9) -> None:
        """Give it one packet of sound."""
        assert self._audio is not None
        self._give(self._audio, opus, timestamp, ssrc)

    def report(self, timestamp: int, ntp: int, *, ssrc: int) -> None:
        """Give it a sender report: at NTP time `ntp` the stream was at `timestamp`."""
        report = rtcp.sender_report(ssrc, ntp=ntp, timestamp=timestamp, packets=1, octets=1, cname="x")
        self.publisher.on_rtcp(report)

    def _give(
        self, kind: int, payload: bytes, timestamp: int, ssrc: int, *, marker: bool = False, rid: str = ""
    ) -> None:
        number = self._numbers.get(ssrc, 0)
        self._numbers[ssrc] = number + 1
        self.publisher.on_rtp(rtp(kind, number, timestamp, ssrc, payload, marker=marker, rid=rid))

    @property
    def units(self) -> list[AccessUnit]:
        return [frame for frame in self.frames if isinstance(frame, AccessUnit)]

    @property
    def sounds(self) -> list[OpusPacket]:
        return [frame for frame in self.frames if isinstance(frame, OpusPacket)]
