"""Negotiation (RFC 8829, RFC 9143): one H.264 video and one Opus audio on one transport."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from aioice import Candidate

from gateway.webrtc import sdp
from gateway.webrtc.errors import OfferRefused
from gateway.webrtc.sdp import Codec, Description, IceCredentials, Section

TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
RID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"

ACCEPTED = "H264/90000 (best with packetization-mode=1) for video and opus/48000/2 for audio"

_INGEST_FEEDBACK = ("nack", "nack pli", "ccm fir", "goog-remb", "transport-cc")
_EGRESS_FEEDBACK = ("nack", "nack pli")


@dataclass(frozen=True)
class Track:
    """One media section that is accepted, and how."""

    index: int
    """Its place among the offer's sections."""
    mid: str
    codec: Codec
    rtx: Codec | None = None
    """The payload type of its retransmissions (RFC 4588)."""
    feedback: tuple[str, ...] = ()
    extensions: dict[str, int] = field(default_factory=dict)
    """Header extensions that both sides use: URI to id."""
    rid: str | None = None
    """The one simulcast layer that is taken (RFC 8853)."""


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

    @classmethod
    def of(cls, offer: str, *, publishing: bool) -> Negotiation:
        """Choose codecs and tracks of an offer. Raises OfferRefused with what to change in it."""
        description = Description.parse(offer)
        video = _first_track(description, "video", publishing)
        if video is None:
            raise _no_video(description, publishing)
        audio = _first_track(description, "audio", publishing)
        bundle = description.bundle()
        if audio is not None and not {audio.mid, video.mid} <= set(bundle):
            audio = None
        section = _transport_section(description, video, audio)
        setup = description.setup(section)
        if setup not in ("actpass", "active", "passive"):
            raise OfferRefused("bad_sdp", "a=setup takes actpass, active or passive")
        tracks = [video, audio] if audio else [video]
        return cls(
            offer=description,
            publishing=publishing,
            ice=description.ice(section),
            fingerprints=description.fingerprints(section),
            dtls_server=setup != "passive",
            candidates=_candidates(description, tracks),
            video=video,
            audio=audio,
        )

    def answer(
        self, local: Local, *, start_bitrate_kbps: int = 0, sources: dict[str, RtpSource] | None = None
    ) -> str:
        """The SDP answer. `sources` are the gateway's streams by kind where it sends."""
        tracks = {track.index: track for track in (self.video, self.audio) if track is not None}
        lines = ["v=0", f"o=- {secrets.randbits(62)} 1 IN IP4 0.0.0.0", "s=-", "t=0 0"]
        bundle = self.offer.bundle()
        mids = [track.mid for _, track in sorted(tracks.items()) if track.mid in bundle]
        if mids:
            lines.append("a=group:BUNDLE " + " ".join(mids))
        if not self.publishing:
            lines.append("a=msid-semantic: WMS *")
        first = min(tracks)
        for index, section in enumerate(self.offer.media):
            track = tracks.get(index)
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
            fmtp = _h264_fmtp(codec, start_bitrate_kbps if self.publishing else 0)
        else:
            lines.append(f"a=rtpmap:{number} opus/48000/2")
            fmtp = codec.fmtp
        if fmtp:
            lines.append(f"a=fmtp:{number} {fmtp}")
        lines += [f"a=rtcp-fb:{number} {feedback}" for feedback in track.feedback]
        if track.rtx is not None:
            lines.append(f"a=rtpmap:{track.rtx.payload_type} rtx/90000")
            lines.append(f"a=fmtp:{track.rtx.payload_type} apt={number}")
        if track.rid is not None:
            lines += [f"a=rid:{track.rid} recv", f"a=simulcast:recv {track.rid}"]
        return lines


def _first_track(offer: Description, kind: str, publishing: bool) -> Track | None:
    """The first section of its kind with the right direction and our codec.

    Raises OfferRefused (`no_common_codec`) for video of the right direction in other codecs only.
    """
    wrong_codecs: list[str] = []
    for index, section in enumerate(offer.media):
        if section.kind != kind or not section.offered or not _goes_right(section, publishing):
            continue
        offered = sdp.codecs(section)
        codec = _choose(offered, kind, publishing)
        if codec is not None:
            return _track(index, section, codec, offered, publishing)
        wrong_codecs += [
            codec.name.upper() for codec in offered if codec.name not in ("rtx", "red", "ulpfec")
        ]
    if wrong_codecs and kind == "video":
        names = ", ".join(dict.fromkeys(wrong_codecs))
        raise OfferRefused("no_common_codec", f"the offer has {names}; accepted are {ACCEPTED}")
    return None


def _goes_right(section: Section, publishing: bool) -> bool:
    return section.direction in ("sendrecv", "sendonly" if publishing else "recvonly")


def _choose(offered: list[Codec], kind: str, publishing: bool) -> Codec | None:
    if kind == "audio":
        return next((codec for codec in offered if codec.name == "opus" and codec.clock_rate == 48000), None)
    h264 = [codec for codec in offered if codec.name == "h264" and codec.clock_rate == 90000]
    fragmenting = [codec for codec in h264 if codec.parameters.get("packetization-mode") == "1"]
    # A viewer that takes single NAL units only cannot be sent a key frame.
    choices = fragmenting or (h264 if publishing else [])
    return choices[0] if choices else None


def _track(index: int, section: Section, codec: Codec, offered: list[Codec], publishing: bool) -> Track:
    extensions = sdp.extension_ids(section)
    wanted_feedback = list(_INGEST_FEEDBACK if publishing else _EGRESS_FEEDBACK)
    wanted = [MID, TRANSPORT_CC] if publishing else []
    if TRANSPORT_CC not in extensions or "transport-cc" not in codec.feedback:
        wanted = [uri for uri in wanted if uri != TRANSPORT_CC]
        wanted_feedback = [name for name in wanted_feedback if name != "transport-cc"]
    rid = None
    if publishing and section.has("simulcast") and RID in extensions:
        rid = next(
            (value.split()[0] for value in section.values("rid") if value.split()[1:2] == ["send"]), None
        )
        wanted += [RID] if rid else []
    number = str(codec.payload_type)
    rtx = next((one for one in offered if one.name == "rtx" and one.parameters.get("apt") == number), None)
    return Track(
        index=index,
        mid=section.mid,
        codec=codec,
        rtx=rtx if publishing else None,
        feedback=tuple(name for name in wanted_feedback if name in codec.feedback),
        extensions={uri: extensions[uri] for uri in wanted if uri in extensions},
        rid=rid,
    )


def _no_video(offer: Description, publishing: bool) -> OfferRefused:
    if any(section.kind == "video" for section in offer.media):
        ways = "sendonly or sendrecv" if publishing else "recvonly or sendrecv"
        return OfferRefused("no_video", f"the offer's video has the wrong direction: make it {ways}")
    return OfferRefused("no_video", "the offer has no video section (m=video)")


def _transport_section(offer: Description, video: Track, audio: Track | None) -> Section:
    """The section whose ICE and DTLS lines count: the first accepted one of the bundle (RFC 9143, 7.2)."""
    if audio is not None:
        order = offer.bundle()
        if order.index(audio.mid) < order.index(video.mid):
            return offer.media[audio.index]
    return offer.media[video.index]


def _candidates(offer: Description, tracks: Sequence[Track]) -> list[Candidate]:
    found: dict[tuple[str, int], Candidate] = {}
    for section in [offer.session, *(offer.media[track.index] for track in tracks)]:
        for candidate in sdp.candidates(section):
            found.setdefault((candidate.host, candidate.port), candidate)
    return list(found.values())[: sdp.MAX_CANDIDATES]


def _rejected(section: Section) -> list[str]:
    return [
        f"m={section.kind} 0 {section.protocol} {' '.join(section.formats)}",
        "c=IN IP4 0.0.0.0",
        *([f"a=mid:{section.mid}"] if section.mid else []),
        "a=inactive",
    ]


def _h264_fmtp(codec: Codec, start_bitrate_kbps: int) -> str:
    """fmtp with the offer's own profile and mode, as any is taken (RFC 6184, 8.2.2), and bit rate hints."""
    echoed: dict[str, str] = {
        key: codec.parameters[key]
        for key in ("profile-level-id", "packetization-mode")
        if key in codec.parameters
    }
    echoed["level-asymmetry-allowed"] = "1"
    if start_bitrate_kbps:
        echoed["x-google-start-bitrate"] = str(start_bitrate_kbps)
    return ";".join(f"{key}={value}" for key, value in echoed.items())
