"""Numbers and tables of an MPEG transport stream that both its writer and its reader use.

Source: ISO/IEC 13818-1 (ITU-T H.222.0), 2.4.3 (packets, PES) and 2.4.4 (PAT, PMT).
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

PACKET_SIZE = 188
HEADER_SIZE = 4
PAYLOAD_SIZE = PACKET_SIZE - HEADER_SIZE
SYNC = 0x47

PAT_PID = 0x0000
NULL_PID = 0x1FFF

TABLE_PAT = 0x00
TABLE_PMT = 0x02
MAX_SECTION = 1024
"""Bytes that a PAT or PMT section has at most (2.4.4.1)."""

STREAM_H264 = 0x1B
STREAM_PRIVATE_PES = 0x06

STREAM_ID_VIDEO = 0xE0
STREAM_ID_PRIVATE_1 = 0xBD

DESCRIPTOR_REGISTRATION = 0x05
DESCRIPTOR_EXTENSION = 0x7F
OPUS_FORMAT = b"Opus"
OPUS_EXTENSION_TAG = 0x80
"""descriptor_tag_extension of the Opus audio descriptor: one byte of channel configuration follows."""

TIMESTAMP_BITS = 33
TIMESTAMP_MASK = (1 << TIMESTAMP_BITS) - 1
PES_START = b"\x00\x00\x01"
MAX_PES_LENGTH = 0xFFFF
"""The largest PES_packet_length; a longer PES packet of video says 0 and ends where the next begins."""


def crc32(data: bytes) -> int:
    """CRC-32/MPEG-2 (Annex A): as zlib's, but with neither bytes nor result reflected, and not inverted."""
    reflected = binascii.crc32(data.translate(_REVERSED)) ^ 0xFFFF_FFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED), "big")


_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


@dataclass(frozen=True, slots=True)
class ElementaryStream:
    """One line of a PMT."""

    stream_type: int
    pid: int
    descriptors: bytes = b""

    @property
    def is_opus(self) -> bool:
        """Whether it is private data registered as Opus."""
        return self.stream_type == STREAM_PRIVATE_PES and OPUS_FORMAT in registrations(self.descriptors)


@dataclass(frozen=True, slots=True)
class ProgramMap:
    """A PMT: the streams of one program and the PID that carries its clock."""

    program: int
    pcr_pid: int
    streams: tuple[ElementaryStream, ...]

    def section(self, version: int) -> bytes:
        """The section that carries it, CRC included."""
        body = (0xE000 | self.pcr_pid).to_bytes(2, "big") + b"\xf0\x00"
        for stream in self.streams:
            body += bytes([stream.stream_type]) + (0xE000 | stream.pid).to_bytes(2, "big")
            body += (0xF000 | len(stream.descriptors)).to_bytes(2, "big") + stream.descriptors
        return _section(TABLE_PMT, self.program, version, body)

    @classmethod
    def parse(cls, section: bytes) -> ProgramMap:
        """Read a PMT section whose CRC has been checked; ValueError where its lengths do not add up."""
        body = _body(section, TABLE_PMT)
        if len(body) < 4:
            raise ValueError("PMT is cut short")
        pcr_pid = int.from_bytes(body[0:2], "big") & 0x1FFF
        position = 4 + (int.from_bytes(body[2:4], "big") & 0x0FFF)
        streams = []
        while position + 5 <= len(body):
            pid = int.from_bytes(body[position + 1 : position + 3], "big") & 0x1FFF
            length = int.from_bytes(body[position + 3 : position + 5], "big") & 0x0FFF
            end = position + 5 + length
            if end > len(body):
                raise ValueError("PMT descriptors are cut short")
            streams.append(ElementaryStream(body[position], pid, bytes(body[position + 5 : end])))
            position = end
        return cls(int.from_bytes(section[3:5], "big"), pcr_pid, tuple(streams))


def pat_section(program: int, pmt_pid: int, version: int, transport_stream: int = 1) -> bytes:
    """A PAT section with one program."""
    body = program.to_bytes(2, "big") + (0xE000 | pmt_pid).to_bytes(2, "big")
    return _section(TABLE_PAT, transport_stream, version, body)


def parse_pat(section: bytes) -> dict[int, int]:
    """PMT PID by program number, the network's entry (program 0) left out; ValueError on a bad section."""
    body = _body(section, TABLE_PAT)
    entries = (body[index : index + 4] for index in range(0, len(body) - 3, 4))
    pids = {int.from_bytes(e[:2], "big"): int.from_bytes(e[2:], "big") & 0x1FFF for e in entries}
    pids.pop(0, None)
    return pids


def registrations(descriptors: bytes) -> set[bytes]:
    """The format identifiers of the registration descriptors (2.6.8) in a descriptor loop."""
    found = set()
    position = 0
    while position + 2 <= len(descriptors):
        tag, length = descriptors[position], descriptors[position + 1]
        if tag == DESCRIPTOR_REGISTRATION and length >= 4:
            found.add(descriptors[position + 2 : position + 6])
        position += 2 + length
    return found


def is_current(section: bytes) -> bool:
    """Whether a section is in force now, not an announcement (current_next_indicator)."""
    return len(section) > 5 and bool(section[5] & 0x01)


def _section(table: int, extension: int, version: int, body: bytes) -> bytes:
    length = 5 + len(body) + 4
    head = bytes([table]) + (0xB000 | length).to_bytes(2, "big") + extension.to_bytes(2, "big")
    section = head + bytes([0xC1 | (version & 0x1F) << 1, 0, 0]) + body
    return section + crc32(section).to_bytes(4, "big")


def _body(section: bytes, table: int) -> bytes:
    if len(section) < 12 or section[0] != table:
        raise ValueError("not the table asked for")
    return section[8:-4]
