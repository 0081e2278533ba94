"""Transport streams that are small on the wire and costly to read."""

from __future__ import annotations

from gateway.media import opus
from gateway.media.mpegts import (
    PACKET_SIZE,
    PAT_PID,
    STREAM_H264,
    STREAM_ID_PRIVATE_1,
    STREAM_ID_VIDEO,
    STREAM_PRIVATE_PES,
    SYNC,
    ElementaryStream,
    ProgramMap,
    pat_section,
)
from gateway.media.pes import write_header

PMT_PID, VIDEO_PID, AUDIO_PID = 0x1000, 0x100, 0x101
MOST = 8 * 1024 * 1024
"""Bytes of payload in the largest PES packet."""


def packets(pid: int, data: bytes, counter: int = 0) -> bytes:
    """Transport stream packets with `data`, which begins in the first of them and ends with the last."""
    head = bytes((SYNC, pid >> 8, pid & 0xFF))
    first = bytes((SYNC, 0x40 | pid >> 8, pid & 0xFF))
    parts = []
    for at in range(0, len(data), 184):
        chunk = data[at : at + 184]
        room = 184 - len(chunk)
        control = (0x30 if room else 0x10) | counter
        field = bytes((room - 1,)) + (b"\0" + b"\xff" * (room - 2) if room > 1 else b"") if room else b""
        parts.append((head if at else first) + bytes((control,)) + field + chunk)
        counter = (counter + 1) & 0x0F
    return b"".join(parts)


def table(pid: int, section: bytes, counter: int) -> bytes:
    head = bytes((SYNC, 0x40 | pid >> 8, pid & 0xFF, 0x10 | counter & 0x0F))
    return (head + b"\0" + section).ljust(PACKET_SIZE, b"\xff")


SLICE = b"\0\0\1\x41\x9a"
"""A small picture, as one NAL unit."""


def program(video: int = VIDEO_PID, audio: int = AUDIO_PID) -> ProgramMap:
    sound = ElementaryStream(STREAM_PRIVATE_PES, audio, opus.descriptors(2))
    return ProgramMap(1, video, (ElementaryStream(STREAM_H264, video), sound))


def tables() -> bytes:
    """PAT and PMT of a stream with pictures and sound."""
    return table(PAT_PID, pat_section(1, PMT_PID, 0), 0) + table(PMT_PID, program().section(0), 0)


def picture(payload: bytes, *, pts: int = 0, counter: int = 0, pid: int = VIDEO_PID) -> bytes:
    """One PES packet of video, however large."""
    return packets(pid, write_header(STREAM_ID_VIDEO, MOST, pts) + payload, counter)


def ended_picture(payload: bytes, pid: int = VIDEO_PID) -> bytes:
    """A PES packet of video, with the beginning of another, which ends it."""
    whole = picture(payload, pid=pid)
    return whole + picture(SLICE, pts=3_000, counter=len(whole) // PACKET_SIZE & 0x0F, pid=pid)


def ended_sound(payload: bytes) -> bytes:
    """A PES packet of sound that does not say how long it is, with the beginning of another."""
    whole = packets(AUDIO_PID, write_header(STREAM_ID_PRIVATE_1, MOST, 0) + payload)
    counter = len(whole) // PACKET_SIZE & 0x0F
    return whole + packets(AUDIO_PID, write_header(STREAM_ID_PRIVATE_1, 0, 3_000), counter)


HOSTILE_STREAMS: dict[str, bytes] = {
    "NAL units of one byte": tables() + ended_picture(b"\0\0\1\x41" * (MOST // 4 - 100)),
    "empty NAL units": tables() + ended_picture(b"\0\0\1" * (MOST // 3 - 100)),
    "access unit delimiters": tables() + ended_picture(b"\0\0\1\x09\xf0\0\0\1\x41\x9a" * 800_000),
    "zeros": tables() + ended_picture(bytes(MOST - 400)),
    "parameter sets": tables() + ended_picture(b"\0\0\1\x67\x42\xe0\x1f\xda" * (MOST // 8 - 100)),
    "tables that change": tables()
    + b"".join(
        table(PMT_PID, program(0x100 + n % 0x400, 0x800 + n % 0x400).section(n), n + 1) for n in range(3_000)
    ),
    "programs that move": tables()
    + b"".join(table(PAT_PID, pat_section(1, 0x30 + n, n), n + 1) for n in range(3_000)),
    "packets of sound": tables() + ended_sound((opus.control_header(1) + b"\xfc") * (MOST // 4 - 100)),
    "a packet of sound without end": tables() + ended_sound(b"\x7f\xe0" + b"\xff" * (MOST - 400)),
    "starts of pictures": tables() + b"".join(picture(b"\0\0\1\x41", counter=n & 15) for n in range(40_000)),
    "sync bytes": b"\x47" * MOST,
    "no sync bytes": b"\x46" * MOST,
    "sync bytes far apart": (b"\x47" + b"\x46" * 200) * (MOST // 201),
}
