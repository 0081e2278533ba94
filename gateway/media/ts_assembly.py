"""Puts together what transport stream packets of one PID carry: PES packets and table sections.

Source: ISO/IEC 13818-1, 2.4.3.6 (PES packets over packets), 2.4.4 (sections over packets).
"""

from __future__ import annotations

from typing import Protocol

from gateway.media.mpegts import HEADER_SIZE, MAX_SECTION, PACKET_SIZE, PAYLOAD_SIZE, SYNC, crc32
from gateway.media.pes import PES_LENGTH_OFFSET
from gateway.media.rtp_h264 import MAX_ACCESS_UNIT

MAX_PES_BYTES = MAX_ACCESS_UNIT
"""Limit of a PES packet, which a picture mostly is: what a publisher's picture may have."""

_TRUSTED_ENDS = 2
"""PES packets that must have ended with a stuffed packet before stuffing is taken for an end."""


class Assembler(Protocol):
    """The payloads of one PID, in order. `counter` is the continuity counter expected next, if known."""

    counter: int | None
    last_payload: bytes
    lost: int

    @property
    def held(self) -> int:
        """Bytes held of incomplete packets."""

    def start(self, payload: bytes, stuffed: bool) -> list[bytes]:
        """A payload with payload_unit_start_indicator: what it completes."""

    def more(self, payload: bytes, stuffed: bool) -> bytes | None:
        """A payload without it: what it completes."""

    def lose(self) -> None:
        """Something was lost: drop what is incomplete."""


class PesAssembler:
    """The PES packets of one PID; `lost` counts those given up.

    A packet that gives its length ends with its last byte. One that does not (video may) ends where
    the next one starts; but writers pad with stuffing only where a PES packet ends, so once a stream
    has been seen to do so, and never otherwise, a stuffed packet is taken for the end: a live picture
    is not held back until the next one.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.counter: int | None = None
        self.last_payload = b""
        self.lost = 0
        self._plain_heads = [bytes((SYNC, pid >> 8, pid & 0xFF, 0x10 | count)) for count in range(16)]
        self._parts: list[bytes] = []
        self._size = 0
        self._wanted: int | None = None
        self._open = False
        self._stuffed = False
        self._stuffed_ends = 0
        self._stuffs_anywhere = False

    @property
    def held(self) -> int:
        return self._size if self._open else 0

    def start(self, payload: bytes, stuffed: bool) -> list[bytes]:
        former = self.finish()
        self._parts, self._size, self._wanted, self._stuffed = [], 0, None, False
        self._open = True
        own = self.more(payload, stuffed)
        return [data for data in (former, own) if data is not None]

    def more(self, payload: bytes, stuffed: bool) -> bytes | None:
        if self._stuffed and not self._stuffs_anywhere:
            self._stuffs_anywhere = True
            self.lost += not self._open  # it was taken for complete
        if not self._open:
            return None
        self._stuffed = stuffed
        self._parts.append(payload)
        self._size += len(payload)
        wanted = self._wanted
        if wanted is None:
            if self._size < PES_LENGTH_OFFSET:
                return None
            wanted = self._wanted = self._declared_size()
        if wanted:
            return self._take() if self._size >= wanted else None
        if self._size > MAX_PES_BYTES:
            self.lose()
        elif stuffed and self._stuffed_ends >= _TRUSTED_ENDS and not self._stuffs_anywhere:
            return self._take()
        return None

    def more_in_a_row(self, data: bytes, at: int) -> int:
        """Take the plain packets of this PID that lie one behind the other in `data` from `at` on.

        Where the next packet that is not one of them begins. It stops short of the packet that might
        complete something, which is left to `more`; this is for the bulk of large pictures.
        """
        if not self._open or self._stuffed or self._wanted is None or self.counter is None:
            return at
        missing = (self._wanted or MAX_PES_BYTES) - self._size
        end = min(len(data), at + (missing - 1) // PAYLOAD_SIZE * PACKET_SIZE) - PACKET_SIZE
        counter, heads, parts = self.counter, self._plain_heads, self._parts
        begin = at
        while at <= end and data.startswith(heads[counter], at):
            parts.append(data[at + HEADER_SIZE : at + PACKET_SIZE])
            counter = (counter + 1) & 0x0F
            at += PACKET_SIZE
        if at > begin:
            self.counter = counter
            self.last_payload = parts[-1]
            self._size += (at - begin) // PACKET_SIZE * PAYLOAD_SIZE
        return at

    def finish(self) -> bytes | None:
        """What was only waiting for the next start; a packet that says it is longer is given up."""
        data = self._take() if self._open and self._wanted == 0 else None
        self.lose()
        return data

    def lose(self) -> None:
        self.lost += self._open
        self._open = self._stuffed = False
        self._parts = []

    def _declared_size(self) -> int:
        head = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        length = head[4] << 8 | head[5]
        return length + PES_LENGTH_OFFSET if length else 0

    def _take(self) -> bytes:
        data = b"".join(self._parts)
        self._stuffed_ends += self._stuffed
        self._open = False
        self._parts = []
        return data


class SectionAssembler:
    """The sections of one PID with a valid CRC; others are ignored."""

    def __init__(self) -> None:
        self.counter: int | None = None
        self.last_payload = b""
        self.lost = 0
        self._buffer: bytes | None = None

    @property
    def held(self) -> int:
        return len(self._buffer or b"")

    def start(self, payload: bytes, stuffed: bool) -> list[bytes]:
        pointer = payload[0] if payload else 0
        begin = 1 + pointer
        sections = []
        if self._buffer is not None:
            self._buffer += payload[1:begin]
            sections += self._complete()
        self._buffer = payload[begin:]
        return sections + self._complete()

    def more(self, payload: bytes, stuffed: bool) -> bytes | None:
        if self._buffer is None:
            return None
        self._buffer += payload
        sections = self._complete()
        return sections[0] if sections else None

    def lose(self) -> None:
        self._buffer = None

    def _complete(self) -> list[bytes]:
        sections = []
        while self._buffer is not None:
            if not self._buffer or self._buffer[0] == 0xFF:  # stuffing up to the next start
                self._buffer = None
            elif len(self._buffer) < 3:
                break
            else:
                size = 3 + ((self._buffer[1] & 0x0F) << 8 | self._buffer[2])
                if size > MAX_SECTION:
                    self._buffer = None
                    break
                if len(self._buffer) < size:
                    break
                section, self._buffer = self._buffer[:size], self._buffer[size:]
                if crc32(section) == 0:
                    sections.append(section)
        return sections
