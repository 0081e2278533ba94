"""Negotiation (RFC 8829, RFC 9143): one H.264 video and one Opus audio on one transport."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from string import hexdigits

from aioice import Candidate

from gateway.webrtc import sdp, tracks
from gateway.webrtc.errors import OfferRefused
from gateway.webrtc.sdp import Codec, Description, IceCredentials, Section
from gateway.webrtc.tracks import Rejected, Track

HIGHEST_LEVEL = 0x34
"""level_idc of level 5.2: 4096 x 2304 pixels at 56 a second."""


@dataclass(frozen=True)
class Local:
    """The gateway's side of a transport, as an answer tells it."""

    username: str
    password: str = field(repr=False)
    fingerprint: tuple[str, str]
    candidates: Sequence[Candidate]


@dataclass(frozen=True)
class RtpSource:
    """An RTP stream that the gateway sends."""

    ssrc: int
    cname: str


@dataclass(frozen=True)
class Negotiation:
    """What was agreed with one peer."""

    offer: Description = field(repr=False)
    publishing: bool
    """Whether the peer sends (WHIP) or watches (WHEP)."""
    ice: IceCredentials
    fingerprints: list[tuple[str, str]]
    dtls_server: bool
    """Whether the gateway waits for the peer's ClientHello (a=setup:passive)."""
    candidates: list[Candidate]
    video: Track
    audio: Track | None
    rejected: tuple[Rejected, ...]
    """What the offer asked for and did not get."""

    @classmethod
    def of(cls, offer: str, *, publishing: bool, profile: str = "") -> Negotiation:
        """Choose codecs and tracks of an offer. Raises OfferRefused with what to change in it.

        `profile` is that of the stream to watch, where it is known: the first two bytes of a profile-level-id
        in hex.
        """
        description = Description.parse(offer)
        choice = tracks.choose(description, publishing=publishing, profile=profile)
        section = _transport_section(description, choice.video, choice.audio)
        setup = description.setup(section)
        if setup not in ("actpass", "active", "passive"):
            raise OfferRefused("bad_sdp", "a=setup takes actpass, active or passive")
        return cls(
            offer=description,
            publishing=publishing,
            ice=description.ice(section),
            fingerprints=description.fingerprints(section),
            dtls_server=setup != "passive",
            candidates=sdp.candidates(description.sharing_transport(section)),
            video=choice.video,
            audio=choice.audio,
            rejected=choice.rejected,
        )

    def answer(
        self, local: Local, *, start_bitrate_kbps: int = 0, sources: dict[str, RtpSource] | None = None
    ) -> str:
        """The SDP answer. `sources` are the gateway's streams by kind where it sends."""
        taken = {track.index: track for track in (self.video, self.audio) if track is not None}
        lines = ["v=0", f"o=- {secrets.randbits(62)} 1 IN IP4 0.0.0.0", "s=-", "t=0 0"]
        bundle = self.offer.bundle(self.video.mid)
        mids = [track.mid for _, track in sorted(taken.items()) if track.mid in bundle]
        if mids:
            lines.append("a=group:BUNDLE " + " ".join(mids))
        if not self.publishing:
            lines.append("a=msid-semantic: WMS *")
        first = min(taken)
        for index, section in enumerate(self.offer.media):
            track = taken.get(index)
            if track is None:
                lines += _rejected(section)
                continue
            lines += self._transport_lines(section, track, local, with_candidates=index == first)
            lines += self._codec_lines(track, start_bitrate_kbps)
            source = (sources or {}).get(section.kind)
            if source is not None:
                lines += [f"a=msid:gateway {section.kind}", f"a=ssrc:{source.ssrc} cname:{source.cname}"]
        return "\r\n".join(lines) + "\r\n"

    def _transport_lines(
        self, section: Section, track: Track, local: Local, *, with_candidates: bool
    ) -> list[str]:
        formats = [track.codec, *([track.rtx] if track.rtx else [])]
        algorithm, value = local.fingerprint
        lines = [
            f"m={section.kind} 9 {section.protocol} {' '.join(str(codec.payload_type) for codec in formats)}",
            "c=IN IP4 0.0.0.0",
            *([f"a=mid:{track.mid}"] if track.mid else []),
            "a=recvonly" if self.publishing else "a=sendonly",
            "a=rtcp-mux",
            *(["a=rtcp-rsize"] if section.has("rtcp-rsize") else []),
            f"a=ice-ufrag:{local.username}",
            f"a=ice-pwd:{local.password}",
            "a=ice-options:trickle",
            f"a=fingerprint:{algorithm} {value}",
            f"a=setup:{'passive' if self.dtls_server else 'active'}",
        ]
        if with_candidates:
            lines += [f"a=candidate:{candidate.to_sdp()}" for candidate in local.candidates]
            lines.append("a=end-of-candidates")
        return lines

    def _codec_lines(self, track: Track, start_bitrate_kbps: int) -> list[str]:
        lines = [f"a=extmap:{number} {uri}" for uri, number in track.extensions.items()]
        codec, number = track.codec, track.codec.payload_type
        if codec.name == "h264":
            lines.append(f"a=rtpmap:{number} H264/90000")
            fmtp = _h264_fmtp(codec, start_bitrate_kbps if self.publishing else 0, receives=self.publishing)
        else:
            lines.append(f"a=rtpmap:{number} opus/48000/2")
            fmtp = codec.fmtp
        if fmtp:
            lines.append(f"a=fmtp:{number} {fmtp}")
        lines += [f"a=rtcp-fb:{number} {feedback}" for feedback in track.feedback]
        if track.rtx is not None:
            lines.append(f"a=rtpmap:{track.rtx.payload_type} rtx/90000")
            lines.append(f"a=fmtp:{track.rtx.payload_type} apt={number}")
        if track.rids:
            lines += [f"a=rid:{rid} recv" for rid in track.rids]
            lines.append(f"a=simulcast:recv {';'.join(track.rids)}")
        return lines


def _transport_section(offer: Description, video: Track, audio: Track | None) -> Section:
    """The section whose ICE and DTLS lines count: the first accepted one of the bundle (RFC 9143, 7.2)."""
    if audio is not None:
        order = offer.bundle(video.mid)
        if order.index(audio.mid) < order.index(video.mid):
            return offer.media[audio.index]
    return offer.media[video.index]


def _rejected(section: Section) -> list[str]:
    return [
        f"m={section.kind} 0 {section.protocol} {' '.join(section.formats)}",
        "c=IN IP4 0.0.0.0",
        *([f"a=mid:{section.mid}"] if section.mid else []),
        "a=inactive",
    ]


def _h264_fmtp(codec: Codec, start_bitrate_kbps: int, *, receives: bool) -> str:
    """fmtp with the offer's own profile and mode, as any is taken (RFC 6184, 8.2.2), and bit rate hints."""
    echoed: dict[str, str] = {
        key: codec.parameters[key]
        for key in ("profile-level-id", "packetization-mode")
        if key in codec.parameters
    }
    if receives and codec.parameters.get("level-asymmetry-allowed") == "1" and "profile-level-id" in echoed:
        echoed["profile-level-id"] = _with_highest_level(echoed["profile-level-id"])
    echoed["level-asymmetry-allowed"] = "1"
    if start_bitrate_kbps:
        echoed["x-google-start-bitrate"] = str(start_bitrate_kbps)
    return ";".join(f"{key}={value}" for key, value in echoed.items())


def _with_highest_level(profile_level_id: str) -> str:
    """The same profile at a level that limits no encoder: some send no larger pictures than it allows."""
    profile, level = profile_level_id[:4], profile_level_id[4:]
    if len(level) != 2 or not all(digit in hexdigits for digit in level):
        return profile_level_id
    return f"{profile}{max(int(level, 16), HIGHEST_LEVEL):02x}"
