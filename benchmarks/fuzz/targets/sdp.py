"""Offers, answers and fragments of candidates."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from benchmarks.fuzz.target import Target
from gateway.webrtc.errors import OfferRefused
from gateway.webrtc.negotiation import Negotiation
from gateway.webrtc.sdp import Fragment

OFFERS = Path(__file__).parents[3] / "tests" / "data" / "offers"


def check(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for publishing in (True, False):
        with suppress(OfferRefused):
            Negotiation.of(text, publishing=publishing)
    with suppress(OfferRefused):
        Fragment.parse(text)


SDP = Target(
    "sdp",
    check,
    limit=64 * 1024,
    seeds=[path.read_bytes() for path in sorted(OFFERS.glob("*.sdp"))],
    words=[
        *(b"a=rtpmap:96 H264/90000\r\n", b"a=fmtp:96 packetization-mode=1\r\n", b"a=rtcp-fb:96 nack\r\n"),
        *(b"m=video 9 UDP/TLS/RTP/SAVPF 96\r\n", b"a=group:BUNDLE 0 1\r\n", b"a=mid:0\r\n"),
        *(b"a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n", b"a=extmap:1 x\r\n", b" 96"),
        *(b"a=candidate:1 1 tcp 1 127.0.0.1 9 typ host\r\n", b" 1", b"a=end-of-candidates\r\n"),
        *(b"a=simulcast:send 1;2\r\n", b"a=rid:1 send\r\n", b"a=ssrc-group:FID 1 2\r\n", b"a=ssrc:1 a:b\r\n"),
    ],
)
