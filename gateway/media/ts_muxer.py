"""Writes frames as MPEG transport stream packets, each frame complete in itself.

Nothing is held back for interleaving: a frame's packets are returned by the call that gives the
frame, the last one filled up with stuffing, so the bytes can leave at once.

Source: ISO/IEC 13818-1, 2.4.3.2 to 2.4.3.5 (packets and adaptation fields), 2.14 (H.264 in PES).
"""

from __future__ import annotations

from gateway.media import opus
from gateway.media.frames import AccessUnit, Frame, OpusPacket
from gateway.media.h264 import START_CODE
from gateway.media.mpegts import (
    PAT_PID,
    PAYLOAD_SIZE,
    STREAM_H264,
    STREAM_ID_PRIVATE_1,
    STREAM_ID_VIDEO,
    STREAM_PRIVATE_PES,
    SYNC,
    TIMESTAMP_MASK,
    ElementaryStream,
    ProgramMap,
    pat_section,
)
from gateway.media.pes import write_header

PROGRAM = 1
PMT_PID = 0x1000
VIDEO_PID = 0x0100
AUDIO_PID = 0x0101

PCR_LEAD = 9_000
"""How far the clock runs ahead of the DTS it is sent with, in 90 kHz ticks: a picture's bytes must be
in before it is decoded (2.4.2)."""

_AUD = START_CODE + b"\x09\xf0"
"""An access unit delimiter (any slice type), which H.264 in a transport stream must have (2.14.1)."""

_UNIT_START = 0x40
_PAYLOAD = 0x10
_ADAPTATION = 0x20
_RANDOM_ACCESS = 0x40
_PCR_FLAG = 0x10
_PCR_FIELD_SIZE = 8
"""adaptation_field_length, flags, and a PCR of six bytes."""


class _Pid:
    """The packets of one PID, counted by their continuity counter."""

    def __init__(self, pid: int) -> None:
        self._start = bytes((SYNC, _UNIT_START | pid >> 8, pid & 0xFF))
        self._plain = bytes((SYNC, pid >> 8, pid & 0xFF))
        self._whole = [self._plain + bytes((_PAYLOAD | count,)) for count in range(16)]
        self._counter = 0

    def packets(self, payload: bytes, adaptation: bytes = b"") -> bytes:
        """`payload` over as many packets as it takes, `adaptation` (with its length byte) in the first."""
        room = PAYLOAD_SIZE - len(adaptation)
        counter = self._counter
        if len(payload) <= room:
            self._counter = (counter + 1) & 0x0F
            return _stuffed(self._start, counter, adaptation, payload)
        control = (_PAYLOAD | _ADAPTATION if adaptation else _PAYLOAD) | counter
        first = self._start + bytes((control,)) + adaptation + payload[:room]

        counter += 1
        full, rest = divmod(len(payload) - room, PAYLOAD_SIZE)
        end = len(payload) - rest
        # Headers and payloads take turns in one list that is joined once: the frame is copied in C.
        pieces = [b""] * (2 * full)
        turns = (full + 31) // 16
        pieces[0::2] = (self._whole * turns)[counter & 0x0F : (counter & 0x0F) + full]
        pieces[1::2] = [payload[at : at + PAYLOAD_SIZE] for at in range(room, end, PAYLOAD_SIZE)]
        counter += full
        pieces.insert(0, first)
        if rest:
            pieces.append(_stuffed(self._plain, counter & 0x0F, b"", payload[end:]))
            counter += 1
        self._counter = counter & 0x0F
        return b"".join(pieces)

    def section(self, section: bytes) -> bytes:
        """One packet that holds a whole table, padded behind it (2.4.4)."""
        payload = (b"\x00" + section).ljust(PAYLOAD_SIZE, b"\xff")
        return self.packets(payload)


def _stuffed(head: bytes, counter: int, adaptation: bytes, payload: bytes) -> bytes:
    missing = PAYLOAD_SIZE - len(adaptation) - len(payload)
    if missing:
        if adaptation:
            adaptation = bytes((adaptation[0] + missing,)) + adaptation[1:] + b"\xff" * missing
        else:
            adaptation = b"\x00" if missing == 1 else bytes((missing - 1, 0)) + b"\xff" * (missing - 2)
    control = _PAYLOAD | _ADAPTATION if adaptation else _PAYLOAD
    return head + bytes((control | counter,)) + adaptation + payload


class TsMuxer:
    """One program with H.264 and, where it is declared, Opus.

    Continuity goes on for the muxer's life, over all segments. Times are masked to their 33 bits.
    """

    def __init__(self, *, audio_channels: int = 2) -> None:
        self._pat = _Pid(PAT_PID)
        self._pmt = _Pid(PMT_PID)
        self._video = _Pid(VIDEO_PID)
        self._audio = _Pid(AUDIO_PID)
        self._pat_section = pat_section(PROGRAM, PMT_PID, version=0)
        self._opus = ElementaryStream(STREAM_PRIVATE_PES, AUDIO_PID, opus.descriptors(audio_channels))
        self._declared: ProgramMap | None = None
        self._version = -1

    def tables(self, *, audio: bool) -> bytes:
        """PAT and PMT, to begin a segment with; the PMT's version rises when `audio` comes or goes."""
        streams = [ElementaryStream(STREAM_H264, VIDEO_PID)]
        if audio:
            streams.append(self._opus)
        program = ProgramMap(PROGRAM, VIDEO_PID, tuple(streams))
        if program != self._declared:
            self._declared = program
            self._version = (self._version + 1) & 0x1F
        return self._pat.section(self._pat_section) + self._pmt.section(program.section(self._version))

    def frame(self, frame: Frame) -> bytes:
        """The packets of one frame, a whole number of them."""
        return self.video(frame) if isinstance(frame, AccessUnit) else self.audio(frame)

    def video(self, unit: AccessUnit) -> bytes:
        """The packets of one picture, its clock reference in the first."""
        payload = START_CODE.join((_AUD, *unit.nals))
        header = write_header(STREAM_ID_VIDEO, len(payload), unit.pts, unit.dts)
        flags = _PCR_FLAG | _RANDOM_ACCESS if unit.key else _PCR_FLAG
        # The base in 33 bits, six reserved ones, and no extension in 27 MHz ticks.
        clock = ((unit.dts - PCR_LEAD) & TIMESTAMP_MASK) << 15 | 0x7E00
        adaptation = bytes((_PCR_FIELD_SIZE - 1, flags)) + clock.to_bytes(6, "big")
        if (len(header) + len(payload) + _PCR_FIELD_SIZE) % PAYLOAD_SIZE == 0:
            # One trailing zero (B.1.1) makes the last packet a stuffed one: how a reader can tell the
            # end of a picture that is too large for PES_packet_length.
            payload += b"\x00"
            header = write_header(STREAM_ID_VIDEO, len(payload), unit.pts, unit.dts)
        return self._video.packets(header + payload, adaptation)

    def audio(self, packet: OpusPacket) -> bytes:
        """The packets of one Opus packet."""
        payload = opus.control_header(len(packet.data)) + packet.data
        header = write_header(STREAM_ID_PRIVATE_1, len(payload), packet.pts)
        return self._audio.packets(header + payload)
