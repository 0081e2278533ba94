"""The gateway's offer to a ComfyStream server, and what the answer says."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from gateway.comfystream.errors import ComfyStreamError
from gateway.webrtc.errors import OfferRefused
from gateway.webrtc.negotiation import Local, Negotiation
from gateway.webrtc.sdp import Section

SCTP_PORT = 5000
MAX_MESSAGE = 262_144
"""Bytes of one data channel message that the gateway accepts (RFC 8841, 6.1)."""
DEFAULT_MAX_MESSAGE = 65_536
"""What a peer accepts that names no limit (RFC 8841, 6.1)."""

_VIDEO, _RTX, _AUDIO = 96, 97, 111


@dataclass(frozen=True)
class SdpAnswer:
    """What the server agreed to, for each direction: it sends back what it receives."""

    receiving: Negotiation
    sending: Negotiation
    sctp_port: int
    max_message: int

    @classmethod
    def parse(cls, sdp: str) -> SdpAnswer:
        """Parse an SDP answer. Raises ComfyStreamError."""
        try:
            receiving = Negotiation.of(sdp, publishing=True)
            sending = Negotiation.of(sdp, publishing=False)
        except OfferRefused as error:
            raise ComfyStreamError(f"its answer cannot be used: {error}") from error
        data = next(
            (one for one in receiving.offer.media if one.kind == "application" and one.offered), Section()
        )
        return cls(
            receiving,
            sending,
            _number(data.value("sctp-port"), SCTP_PORT),
            _number(data.value("max-message-size"), DEFAULT_MAX_MESSAGE),
        )


def _number(text: str | None, default: int) -> int:
    return (
        int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 10 else default
    )


def offer(local: Local, *, audio: bool) -> str:
    """An SDP offer with all candidates: H.264, Opus where there is sound, and data channels."""
    video = [
        f"m=video 9 UDP/TLS/RTP/SAVPF {_VIDEO} {_RTX}",
        f"a=rtpmap:{_VIDEO} H264/90000",
        f"a=fmtp:{_VIDEO} level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        *(f"a=rtcp-fb:{_VIDEO} {feedback}" for feedback in ("nack", "nack pli", "goog-remb")),
        f"a=rtpmap:{_RTX} rtx/90000",
        f"a=fmtp:{_RTX} apt={_VIDEO}",
    ]
    sound = [
        f"m=audio 9 UDP/TLS/RTP/SAVPF {_AUDIO}",
        f"a=rtpmap:{_AUDIO} opus/48000/2",
        f"a=fmtp:{_AUDIO} minptime=10;useinbandfec=1",
    ]
    data = [
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        f"a=sctp-port:{SCTP_PORT}",
        f"a=max-message-size:{MAX_MESSAGE}",
    ]
    sections = [video, sound, data] if audio else [video, data]
    lines = ["v=0", f"o=- {secrets.randbits(62)} 1 IN IP4 0.0.0.0", "s=-", "t=0 0"]
    lines.append("a=group:BUNDLE " + " ".join(str(mid) for mid in range(len(sections))))
    for mid, section in enumerate(sections):
        lines += [section[0], "c=IN IP4 0.0.0.0", f"a=mid:{mid}", *_transport_lines(local)]
        if section is not data:
            lines += ["a=sendrecv", "a=rtcp-mux"]
        lines += section[1:]
    return "\r\n".join(lines) + "\r\n"


def _transport_lines(local: Local) -> list[str]:
    algorithm, value = local.fingerprint
    return [
        f"a=ice-ufrag:{local.username}",
        f"a=ice-pwd:{local.password}",
        f"a=fingerprint:{algorithm} {value}",
        "a=setup:actpass",
        *(f"a=candidate:{candidate.to_sdp()}" for candidate in local.candidates),
        "a=end-of-candidates",
    ]
