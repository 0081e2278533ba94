"""PES packets: the layer of an MPEG transport stream that carries one frame and its times.

Source: ISO/IEC 13818-1, 2.4.3.6 (syntax) and 2.4.3.7 (meaning).
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.media.mpegts import MAX_PES_LENGTH, PES_START, TIMESTAMP_MASK

_PTS_ONLY = 0x80
_PTS_AND_DTS = 0xC0
_ALIGNED = 0x84
"""Marker bits and data_alignment_indicator: an access unit starts where the payload does."""
_HEADER_SIZE = 9
PES_LENGTH_OFFSET = 6
"""PES_packet_length counts the bytes behind itself: the packet's whole size is this much more."""


def write_timestamp(prefix: int, value: int) -> bytes:
    """Five bytes for a timestamp; `prefix` is 2 for a lone PTS, 3 for one before a DTS, 1 for a DTS."""
    value &= TIMESTAMP_MASK
    return bytes(
        (
            prefix << 4 | (value >> 29) & 0x0E | 1,
            (value >> 22) & 0xFF,
            (value >> 14) & 0xFE | 1,
            (value >> 7) & 0xFF,
            (value << 1) & 0xFE | 1,
        )
    )


def read_timestamp(data: bytes, at: int) -> int:
    """The 33-bit PTS or DTS in the five bytes at `at`."""
    return (
        (data[at] & 0x0E) << 29
        | data[at + 1] << 22
        | (data[at + 2] & 0xFE) << 14
        | data[at + 3] << 7
        | data[at + 4] >> 1
    )


def write_header(stream_id: int, payload_size: int, pts: int, dts: int | None = None) -> bytes:
    """The header before `payload_size` bytes; a DTS equal to the PTS is left out, as 2.7.5 asks for.

    PES_packet_length is given wherever it fits, so that a reader can hand the frame on with its last
    byte; above 65,535 it is 0 (unbounded), which is allowed for video only.
    """
    if dts is None or dts == pts:
        flags, times = _PTS_ONLY, write_timestamp(2, pts)
    else:
        flags, times = _PTS_AND_DTS, write_timestamp(3, pts) + write_timestamp(1, dts)
    length = 3 + len(times) + payload_size
    if length > MAX_PES_LENGTH:
        length = 0
    return PES_START + bytes((stream_id, length >> 8, length & 0xFF, _ALIGNED, flags, len(times))) + times


@dataclass(frozen=True, slots=True)
class PesPacket:
    """A PES packet as read: 33-bit times as on the wire, None where it has none (then dts is the pts)."""

    stream_id: int
    pts: int | None
    dts: int | None
    payload: bytes

    @classmethod
    def parse(cls, data: bytes) -> PesPacket:
        """Read a whole packet; ValueError where it is damaged, shorter than it says, or scrambled."""
        if len(data) < _HEADER_SIZE or not data.startswith(PES_START):
            raise ValueError("no PES header")
        length = int.from_bytes(data[4:6], "big")
        end = length + PES_LENGTH_OFFSET if length else len(data)
        begin = _HEADER_SIZE + data[8]
        if not begin <= end <= len(data):
            raise ValueError("PES packet is cut short")
        if data[6] & 0xF0 != 0x80:
            raise ValueError("PES packet is scrambled or of MPEG-1")
        pts = dts = None
        flags = data[7] & 0xC0
        if flags >= _PTS_ONLY:
            if data[8] < (10 if flags == _PTS_AND_DTS else 5):
                raise ValueError("PES header is too short for its timestamps")
            pts = dts = read_timestamp(data, _HEADER_SIZE)
            if flags == _PTS_AND_DTS:
                dts = read_timestamp(data, _HEADER_SIZE + 5)
        return cls(data[3], pts, dts, data[begin:end])
