"""SDP parser (RFC 8866) for WebRTC peers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

from aioice import Candidate

from gateway.webrtc.errors import OfferRefused

MAX_SDP = 65_536
"""Limit in characters. Chromium's largest offers have less than 10,000."""
MAX_LINES = 4096
"""Limit of lines of an offer or a fragment. Chromium's offers have at most 200 in each section."""
MAX_MEDIA = 16
MAX_FORMATS = 128
"""Limit of formats of one section: RTP has that many payload types (RFC 3550, 5.1)."""
MAX_CANDIDATES = 32
"""Limit of candidates of one peer; further ones are ignored."""
MAX_CANDIDATE_LINES = 256
"""Limit of lines of one peer that are looked at for candidates: those of TCP and of names count too."""

MAX_MID = 64
DIGEST_BYTES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
"""Hash functions of certificate fingerprints that are supported."""

DIRECTIONS = frozenset({"sendrecv", "sendonly", "recvonly", "inactive"})


@dataclass
class Section:
    """An m= section, or the lines before the first one."""

    kind: str = ""
    port: int = 0
    protocol: str = ""
    formats: list[str] = field(default_factory=list)
    """Each once."""
    attributes: dict[str, list[str]] = field(default_factory=dict)
    """The values of each attribute, both in the order of the lines."""

    def values(self, name: str) -> Sequence[str]:
        return self.attributes.get(name, ())

    def value(self, name: str) -> str | None:
        return next(iter(self.values(name)), None)

    def has(self, name: str) -> bool:
        return name in self.attributes

    @property
    def mid(self) -> str:
        return self.value("mid") or ""

    @property
    def direction(self) -> str | None:
        """The direction that stands in this section, if any."""
        return next((key for key in self.attributes if key in DIRECTIONS), None)

    @property
    def offered(self) -> bool:
        """Whether the offer wants this section: its port is not 0, or it is bundle-only."""
        return self.port != 0 or self.has("bundle-only")


@dataclass(frozen=True)
class IceCredentials:
    username: str
    password: str = field(repr=False)
    lite: bool = False


@dataclass(frozen=True)
class Codec:
    """One payload type of a section with its parameters."""

    payload_type: int
    name: str
    clock_rate: int
    channels: int
    parameters: dict[str, str]
    feedback: tuple[str, ...]

    @property
    def fmtp(self) -> str:
        return ";".join(f"{key}={value}" if value else key for key, value in self.parameters.items())


@dataclass
class Description:
    """A whole session description."""

    session: Section
    media: list[Section]

    @classmethod
    def parse(cls, text: str) -> Description:
        """Read an SDP. Raises OfferRefused (`bad_sdp`) where it is not one."""
        if len(text) > MAX_SDP:
            raise OfferRefused("bad_sdp", f"the SDP is longer than {MAX_SDP} characters")
        lines = _lines(text)
        if not lines or lines[0] != "v=0":
            raise OfferRefused("bad_sdp", "the body is not an SDP: it must begin with v=0")
        session, media = parse_sections(lines)
        if not media:
            raise OfferRefused("bad_sdp", "the SDP has no media section (m=)")
        if any(len(section.mid) > MAX_MID for section in media):
            raise OfferRefused("bad_sdp", f"a=mid takes at most {MAX_MID} characters")
        return cls(session, media)

    def direction(self, section: Section) -> str:
        """A section's direction, or else the one before the sections (RFC 8866, 6.7)."""
        return section.direction or self.session.direction or "sendrecv"

    @cached_property
    def _bundles(self) -> list[list[str]]:
        """The BUNDLE groups: each section's mid once, in the group's order."""
        known = {section.mid for section in self.media}
        groups = [value.split() for value in self.session.values("group")]
        return [
            list(dict.fromkeys(mid for mid in mids if mid in known))
            for semantics, *mids in filter(None, groups)
            if semantics == "BUNDLE"
        ]

    def bundle(self, mid: str) -> list[str]:
        """The mids that share one transport with `mid`, in the group's order (RFC 9143); empty if none."""
        return next((mids for mids in self._bundles if mid in mids), [])

    def sharing_transport(self, section: Section) -> list[Section]:
        """The section itself, those bundled with it in the group's order, and the lines before the sections.

        The first of a bundle may be the only one that has the transport's lines (RFC 9143, 7.1),
        whatever its kind.
        """
        by_mid = {one.mid: one for one in self.media if one is not section}
        bundled = [by_mid[mid] for mid in self.bundle(section.mid) if mid in by_mid]
        return [section, *bundled, self.session]

    def has_rtcp_mux(self, section: Section) -> bool:
        """Whether RTCP may come on the port of a section's RTP (RFC 5761)."""
        # Sections that are bundle-only leave out what stands in the first of the group.
        return section.has("bundle-only") or any(
            one.has("rtcp-mux") or one.has("rtcp-mux-only") for one in (section, self.session)
        )

    def ice(self, section: Section) -> IceCredentials:
        """A section's ICE credentials. Raises OfferRefused where they are missing or malformed."""
        sharing = self.sharing_transport(section)
        username, password = next(
            ((name, one.value("ice-pwd")) for one in sharing if (name := one.value("ice-ufrag"))),
            (None, None),
        )
        password = password or self.session.value("ice-pwd")
        if not username or not password:
            raise OfferRefused(
                "bad_sdp", "the offer has no a=ice-ufrag and a=ice-pwd: it is not a WebRTC offer"
            )
        if not 4 <= len(username) <= 256 or not 22 <= len(password) <= 256:
            raise OfferRefused("bad_sdp", "a=ice-ufrag takes 4 to 256 characters, a=ice-pwd 22 to 256")
        return IceCredentials(username, password, self.session.has("ice-lite"))

    def fingerprints(self, section: Section) -> list[tuple[str, str]]:
        """(hash function, value) of the peer's certificates, those of known functions (RFC 8122).

        Raises OfferRefused where there is none, or one that no certificate can have.
        """
        sharing = self.sharing_transport(section)
        values = next((values for one in sharing if (values := list(one.values("fingerprint")))), [])
        if not values:
            raise OfferRefused("bad_sdp", "the offer has no a=fingerprint: media without DTLS is not taken")
        found = []
        for value in values:
            function, _, digest = value.partition(" ")
            function, digest = function.lower(), digest.strip().upper()
            if function not in DIGEST_BYTES:
                continue
            if not re.fullmatch(rf"([0-9A-F]{{2}}:){{{DIGEST_BYTES[function] - 1}}}[0-9A-F]{{2}}", digest):
                raise OfferRefused("bad_sdp", f"a=fingerprint is no {function} digest: {value[:80]!r}")
            found.append((function, digest))
        if not found:
            known = ", ".join(DIGEST_BYTES)
            raise OfferRefused("bad_sdp", f"no a=fingerprint of the offer is of a known function ({known})")
        return found

    def setup(self, section: Section) -> str:
        values = (one.value("setup") for one in self.sharing_transport(section))
        return next(filter(None, values), "actpass")


def _lines(text: str) -> list[str]:
    """The lines that are not blank. Raises OfferRefused where they are too many."""
    lines = [line for raw in text.splitlines() if (line := raw.strip())]
    if len(lines) > MAX_LINES:
        raise OfferRefused("bad_sdp", f"the SDP has more than {MAX_LINES} lines")
    return lines


def parse_sections(lines: Iterable[str]) -> tuple[Section, list[Section]]:
    """Split lines into those before the first m= and the media sections. Raises OfferRefused."""
    session = current = Section()
    media: list[Section] = []
    for line in lines:
        if line.startswith("m="):
            if len(media) == MAX_MEDIA:
                raise OfferRefused("bad_sdp", f"the SDP has more than {MAX_MEDIA} media sections")
            current = _media(line)
            media.append(current)
        elif line.startswith("a="):
            key, _, value = line[2:].partition(":")
            current.attributes.setdefault(key, []).append(value.strip())
    return session, media


def _media(line: str) -> Section:
    words = line[2:].split()
    if len(words) < 4:
        raise OfferRefused("bad_sdp", f"this line is cut off: {line[:80]}")
    kind, port, protocol, *formats = words
    number = _number(port.partition("/")[0], 65535)
    if number is None:
        raise OfferRefused("bad_sdp", f"this line has no port: {line[:80]}")
    distinct = list(dict.fromkeys(formats))
    if len(distinct) > MAX_FORMATS:
        raise OfferRefused("bad_sdp", f"this line has more than {MAX_FORMATS} formats: {line[:80]}")
    return Section(kind, number, protocol, distinct)


def _number(text: str, highest: int) -> int | None:
    if len(text) > 10 or not (text.isascii() and text.isdecimal()):
        return None
    value = int(text)
    return value if value <= highest else None


def codecs(section: Section) -> list[Codec]:
    """The payload types of a section that are described by an rtpmap, in the offer's order."""
    maps = dict(_numbered(section, "rtpmap"))
    fmtps = dict(_numbered(section, "fmtp"))
    feedback: dict[str, dict[str, None]] = {}
    for value in section.values("rtcp-fb"):
        text, _, what = value.partition(" ")
        feedback.setdefault(text, {})[what] = None
    found = []
    for text in section.formats:
        number = _number(text, 127)
        if number is None or number not in maps:
            continue
        name, _, rest = maps[number].partition("/")
        rate, _, channels = rest.partition("/")
        clock_rate = _number(rate, 1_000_000)
        if clock_rate is None:
            continue
        found.append(
            Codec(
                payload_type=number,
                name=name.lower(),
                clock_rate=clock_rate,
                channels=_number(channels, 255) or 1,
                parameters=_parameters(fmtps.get(number, "")),
                feedback=tuple(feedback.get(text, {}) | feedback.get("*", {})),
            )
        )
    return found


def _numbered(section: Section, name: str) -> Iterator[tuple[int, str]]:
    for value in section.values(name):
        text, _, rest = value.partition(" ")
        number = _number(text, 127)
        if number is not None:
            yield number, rest.strip()


def _parameters(fmtp: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in fmtp.split(";"))
    return {key.strip().lower(): value.strip() for key, _, value in pairs if key.strip()}


def extension_ids(*sections: Section) -> dict[str, int]:
    """Header extensions of sections: URI to id, those only that fit the one-byte form (RFC 8285)."""
    found: dict[str, int] = {}
    for section in sections:
        for value in section.values("extmap"):
            words = value.split()
            number = _number(words[0].partition("/")[0], 14) if len(words) >= 2 else None
            if number:
                found.setdefault(words[1], number)
    return found


def candidates(sections: Iterable[Section]) -> list[Candidate]:
    """The remote candidates of one peer that can be tried: UDP, first component, a numeric address.

    Names (`.local` ones of browsers that hide their addresses among them) are not resolved: such a peer
    sends checks to the gateway's own candidates and is learned from them (RFC 8445, 7.3.1.3).
    """
    found: dict[tuple[str, int], Candidate] = {}
    values = (value for section in sections for value in section.values("candidate"))
    for value in islice(values, MAX_CANDIDATE_LINES):
        if len(found) == MAX_CANDIDATES:
            break
        candidate = parse_candidate(value)
        if candidate is not None:
            found.setdefault((candidate.host, candidate.port), candidate)
    return list(found.values())


def parse_candidate(value: str) -> Candidate | None:
    """One candidate without the name of its attribute; None where it is of no use or malformed."""
    try:
        candidate = Candidate.from_sdp(value)
        host = ipaddress.ip_address(candidate.host)
    except ValueError:
        return None
    usable = (
        # a zone (RFC 4007, 11) means something on the peer's own machine only
        "%" not in candidate.host
        # nobody alone has one of these, broadcast among them
        and not (host.is_multicast or host.is_unspecified or (host.version == 4 and host.is_reserved))
        and candidate.transport.lower() == "udp"
        and candidate.component == 1
        and 0 < candidate.port < 65536
        and candidate.type in ("host", "srflx", "relay")
    )
    return candidate if usable else None


@dataclass(frozen=True)
class Fragment:
    """What a PATCH brings (RFC 8840's application/trickle-ice-sdpfrag)."""

    username: str | None
    candidates: list[Candidate]

    @classmethod
    def parse(cls, text: str) -> Fragment:
        """Read a fragment. Raises OfferRefused (`bad_sdp`) where there is nothing of ICE in it."""
        if len(text) > MAX_SDP:
            raise OfferRefused("bad_sdp", f"the fragment is longer than {MAX_SDP} characters")
        session, media = parse_sections(_lines(text))
        sections = [session, *media]
        username = next((name for section in sections if (name := section.value("ice-ufrag"))), None)
        found = candidates(sections)
        ends = any(section.has("end-of-candidates") for section in sections)
        if username is None and not found and not ends:
            raise OfferRefused("bad_sdp", "the fragment names neither a=ice-ufrag nor a candidate")
        return cls(username, found)
