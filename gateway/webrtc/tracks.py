"""Which sections of an offer are taken, and why others are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.webrtc import sdp, simulcast
from gateway.webrtc.errors import OfferRefused
from gateway.webrtc.sdp import Codec, Description, Section

TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
RID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"

VIDEO_ACCEPTED = "H264/90000 (best with packetization-mode=1)"
AUDIO_ACCEPTED = "opus/48000/2"
ACCEPTED = f"{VIDEO_ACCEPTED} for video and {AUDIO_ACCEPTED} for audio"

MAX_NAMES = 8
"""Codecs that a refusal names."""
MAX_WORD = 24
"""Characters of a word of the offer that a refusal repeats."""

_INGEST_FEEDBACK = ("nack", "nack pli", "ccm fir", "goog-remb", "transport-cc")
_EGRESS_FEEDBACK = ("nack", "nack pli")
_HELPERS = ("rtx", "red", "ulpfec", "flexfec-03", "telephone-event", "cn")
"""Formats that carry no picture or sound by themselves."""


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
    rids: tuple[str, ...] = ()
    """The simulcast layers that are asked for, the preferred first; one of them is shown (RFC 8853)."""


@dataclass(frozen=True)
class Rejected:
    """Something that an offer asked for and did not get."""

    kind: str
    """That of its section: `audio`, `video`, `application`; or `simulcast`, for layers."""
    reason: str


@dataclass(frozen=True)
class Choice:
    """What is taken of an offer."""

    video: Track
    audio: Track | None
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True)
class _Refusal:
    """Why a section cannot be taken. `code` is that of the refusal where it is the only one of its kind."""

    code: str
    reason: str


def choose(offer: Description, *, publishing: bool, profile: str = "") -> Choice:
    """Take the first video that fits and the first audio beside it.

    Of a viewer's payload types for H.264 the one is taken that names the stream's profile, where one does.

    Raises OfferRefused where no video fits: `no_common_codec`, `bad_sdp` or `no_video`.
    """
    refusals: dict[int, _Refusal] = {}
    tracks: dict[str, Track] = {}
    for kind in ("video", "audio"):
        for index, section in enumerate(offer.media):
            if section.kind != kind or not section.offered or offer.direction(section) == "inactive":
                continue
            found = (
                _Refusal("no_video", f"one {kind} is taken, the first that fits")
                if kind in tracks
                else _try(offer, index, tracks.get("video"), publishing, profile)
            )
            if isinstance(found, Track):
                tracks[kind] = found
            else:
                refusals[index] = found
    if "video" not in tracks:
        raise _without_video(offer, refusals, publishing)
    for index, section in enumerate(offer.media):
        if section.kind not in ("video", "audio") and section.offered:
            refusals[index] = _Refusal("no_video", "only video and audio are taken")
    rejected = [
        Rejected(offer.media[index].kind[:MAX_WORD], refusals[index].reason) for index in sorted(refusals)
    ]
    video = tracks["video"]
    others = [rid for rid in simulcast.layers(offer.media[video.index]) if rid not in video.rids]
    if publishing and others:
        taken = f"only {video.rids[0]} is asked for" if video.rids else f"they need a=extmap with {RID}"
        rejected.append(Rejected("simulcast", f"layers {', '.join(others)}: {taken}"))
    return Choice(video, tracks.get("audio"), tuple(rejected))


def _try(
    offer: Description, index: int, video: Track | None, publishing: bool, profile: str
) -> Track | _Refusal:
    section = offer.media[index]
    if offer.direction(section) not in ("sendrecv", "sendonly" if publishing else "recvonly"):
        return _Refusal("no_video", _wrong_direction(section.kind, publishing))
    offered = sdp.codecs(section)
    codec = _codec(offered, section.kind, publishing, profile)
    if codec is None:
        return _other_codecs(section, offered)
    if not offer.has_rtcp_mux(section):
        return _Refusal(
            "bad_sdp",
            f"the offer's {section.kind} has no a=rtcp-mux: RTCP on a second port is not supported",
        )
    if video is not None and not {section.mid, video.mid} <= set(offer.bundle(video.mid)):
        return _Refusal(
            "bad_sdp", "it is not in one a=group:BUNDLE with the video, and one transport is served"
        )
    return _track(offer, index, codec, offered, publishing)


def _codec(offered: list[Codec], kind: str, publishing: bool, profile: str) -> Codec | None:
    if kind == "audio":
        return next((codec for codec in offered if codec.name == "opus" and codec.clock_rate == 48000), None)
    h264 = [codec for codec in offered if codec.name == "h264" and codec.clock_rate == 90000]
    fragmenting = [codec for codec in h264 if codec.parameters.get("packetization-mode") == "1"]
    # A viewer that takes single NAL units only cannot be sent a key frame.
    choices = fragmenting or (h264 if publishing else [])
    named = [codec for codec in choices if _is_profile(codec, profile)] if profile else []
    return next(iter(named or choices), None)


def _is_profile(codec: Codec, profile: str) -> bool:
    """Whether a payload type is of this profile_idc, and with baseline as constrained as it."""
    offered = codec.parameters.get("profile-level-id", "42000a").lower()
    if offered[:2] != profile[:2]:
        return False
    return offered[:2] != "42" or _is_constrained(offered) == _is_constrained(profile)


def _is_constrained(profile: str) -> bool:
    """Whether constraint_set1_flag is set, with which baseline is constrained baseline (RFC 6184, 8.1)."""
    return profile[2:3] in "4567cdef" and profile[2:3] != ""


def _other_codecs(section: Section, offered: list[Codec]) -> _Refusal:
    names = [codec.name.upper()[:MAX_WORD] for codec in offered if codec.name not in _HELPERS]
    names += [_STATIC[text] for text in section.formats if text in _STATIC]
    listed = ", ".join(list(dict.fromkeys(names))[:MAX_NAMES]) or "no codec that is described"
    if section.kind == "video":
        return _Refusal("no_common_codec", f"the offer has {listed}; accepted are {ACCEPTED}")
    return _Refusal("no_common_codec", f"the offer has {listed}; accepted is {AUDIO_ACCEPTED}")


_STATIC = {"0": "PCMU", "3": "GSM", "8": "PCMA", "9": "G722"}
"""Payload types that need no rtpmap (RFC 3551, table 4), as far as peers still offer them."""


def _wrong_direction(kind: str, publishing: bool) -> str:
    ways = "sendonly or sendrecv" if publishing else "recvonly or sendrecv"
    return f"the offer's {kind} has the wrong direction: make it {ways}"


def _without_video(offer: Description, refusals: dict[int, _Refusal], publishing: bool) -> OfferRefused:
    videos = [section for section in offer.media if section.kind == "video"]
    reasons = [refusals[index] for index in sorted(refusals) if offer.media[index].kind == "video"]
    for code in ("bad_sdp", "no_common_codec", "no_video"):
        for refusal in reasons:
            if refusal.code == code:
                return OfferRefused(code, refusal.reason)
    if not videos:
        kinds = ", ".join(dict.fromkeys(section.kind[:MAX_WORD] for section in offer.media))
        return OfferRefused("no_video", f"the offer has no video section (m=video), only {kinds}"[:200])
    if any(section.offered for section in videos):
        return OfferRefused("no_video", _wrong_direction("video", publishing))
    return OfferRefused(
        "no_video", "the offer's video is switched off: its port is 0, and it is not bundle-only"
    )


def _track(offer: Description, index: int, codec: Codec, offered: list[Codec], publishing: bool) -> Track:
    section = offer.media[index]
    extensions = sdp.extension_ids(section, offer.session)
    wanted_feedback = list(_INGEST_FEEDBACK if publishing else _EGRESS_FEEDBACK)
    wanted = [MID, TRANSPORT_CC] if publishing else []
    if TRANSPORT_CC not in extensions or "transport-cc" not in codec.feedback:
        wanted = [uri for uri in wanted if uri != TRANSPORT_CC]
        wanted_feedback = [name for name in wanted_feedback if name != "transport-cc"]
    rids: Sequence[str] = ()
    if publishing and RID in extensions:
        rids = simulcast.wanted(section, simulcast.layers(section))
        wanted += [RID, REPAIRED_RID] if rids else []
    number = str(codec.payload_type)
    rtx = next((one for one in offered if one.name == "rtx" and one.parameters.get("apt") == number), None)
    return Track(
        index=index,
        mid=section.mid,
        codec=codec,
        rtx=rtx if publishing else None,
        feedback=tuple(name for name in wanted_feedback if name in codec.feedback),
        extensions={uri: extensions[uri] for uri in wanted if uri in extensions},
        rids=tuple(rids),
    )
