"""Opus: how long a packet is, and how packets lie in an MPEG transport stream.

Source: RFC 6716, 3.1 and 3.2 (the table of contents byte); the Opus project's mapping into MPEG-TS
(control header before each packet, registration and extension descriptors in the PMT).
"""

from __future__ import annotations

from gateway.media.frames import TICKS_PER_SECOND
from gateway.media.mpegts import (
    DESCRIPTOR_EXTENSION,
    DESCRIPTOR_REGISTRATION,
    OPUS_EXTENSION_TAG,
    OPUS_FORMAT,
)

SAMPLE_RATE = 48_000

MAX_PACKET = 61_440
"""Limit of bytes of a packet: 48 frames of the largest size (RFC 6716, 3.2)."""

_PREFIX = 0x7FE0
_PREFIX_MASK = 0xFFE0
_START_TRIM = 0x10
_END_TRIM = 0x08
_EXTENSION = 0x04
_MAX_DURATION = TICKS_PER_SECOND * 120 // 1000

# Ticks of one frame by configuration number (RFC 6716, table 2): SILK and its hybrids, then CELT.
_FRAME_TICKS = (
    *(900, 1800, 3600, 5400) * 3,
    *(900, 1800) * 2,
    *(225, 450, 900, 1800) * 4,
)


def descriptors(channels: int) -> bytes:
    """The PMT's descriptors for Opus; 1 and 2 channels are their own configuration code."""
    registration = bytes((DESCRIPTOR_REGISTRATION, len(OPUS_FORMAT))) + OPUS_FORMAT
    return registration + bytes((DESCRIPTOR_EXTENSION, 2, OPUS_EXTENSION_TAG, channels))


def duration(packet: bytes) -> int:
    """How long a packet sounds, in ticks of 90 kHz; 0 for one that breaks the rules of RFC 6716, 3.4."""
    if not packet:
        return 0
    frame = _FRAME_TICKS[packet[0] >> 3]
    code = packet[0] & 0x03
    if code == 0:
        return frame
    if code != 3:
        return 2 * frame
    total = frame * (packet[1] & 0x3F) if len(packet) > 1 else 0
    return total if total <= _MAX_DURATION else 0


def control_header(size: int) -> bytes:
    """The control header of a packet of `size` bytes in a PES payload."""
    return _PREFIX.to_bytes(2, "big") + b"\xff" * (size // 255) + bytes((size % 255,))


def split_payload(payload: bytes, limit: int) -> list[bytes]:
    """The Opus packets of a PES payload; ValueError where a control header is missing or cut short.

    Also where there are more than `limit`.

    Start and end trims are passed over: a packet is handed on whole, as RTP has no place for them.
    """
    packets = []
    at, end, headers = 0, len(payload), 0
    try:
        while at < end:
            head = payload[at] << 8 | payload[at + 1]
            if head & _PREFIX_MASK != _PREFIX:
                raise ValueError("no Opus control header")
            at += 2
            size = 0
            while payload[at] == 0xFF and size <= MAX_PACKET:
                size += 0xFF
                at += 1
            size += payload[at]
            at += 1
            at += 2 * bool(head & _START_TRIM) + 2 * bool(head & _END_TRIM)
            if head & _EXTENSION:
                at += 1 + payload[at]
            if at + size > end or size > MAX_PACKET:
                raise ValueError("Opus packet is cut short")
            if size:
                packets.append(payload[at : at + size])
            at += size
            headers += 1
            if headers > limit:
                raise ValueError(f"more than {limit} Opus packets")
    except IndexError:
        raise ValueError("Opus control header is cut short") from None
    return packets
