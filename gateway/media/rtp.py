"""RTP packets (RFC 3550): headers, header extensions (RFC 8285), and putting packets back in order."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

HEADER_SIZE = 12
ONE_BYTE_EXTENSIONS = 0xBEDE
TWO_BYTE_EXTENSIONS = 0x1000

MAX_HELD = 512
"""Limit of packets held behind a gap: 1.5 s of 3 Mbit/s."""
MAX_WAIT = 0.4
"""Seconds to wait for a missing packet: two or three round trips of retransmission."""
MAX_JUMP = 3000
"""Limit of a gap in sequence numbers; a longer one is a sender that restarted (RFC 3550, A.1)."""

_FIXED = Struct("!BBHII")
_EXTENSION = Struct("!HH")


@dataclass(slots=True)
class RtpPacket:
    """One packet without its padding.

    `sequence` is 16 bits as parsed; a ReorderBuffer replaces it by a number that never wraps.
    `extensions` is the raw block of header extensions: read it with `extension`.
    """

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    profile: int = 0
    extensions: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> RtpPacket:
        """Read a packet. Raises ValueError where it is not one."""
        size = len(data)
        if size < HEADER_SIZE:
            raise ValueError("an RTP packet has at least 12 bytes")
        flags, kind, sequence, timestamp, ssrc = _FIXED.unpack_from(data)
        if flags >> 6 != 2:
            raise ValueError("RTP's version is 2")
        start = HEADER_SIZE + 4 * (flags & 0x0F)
        profile, extensions = 0, b""
        if flags & 0x10:
            if size < start + 4:
                raise ValueError("the RTP header extension is cut off")
            profile, words = _EXTENSION.unpack_from(data, start)
            begin = start + 4
            start = begin + 4 * words
            extensions = data[begin:start]
        end = size
        if flags & 0x20:
            padding = data[-1]
            if padding == 0:
                raise ValueError("RTP padding counts itself: it is never 0")
            end -= padding
        if end < start:
            raise ValueError("the RTP packet is shorter than its header says")
        return cls(kind & 0x7F, kind >= 0x80, sequence, timestamp, ssrc, data[start:end], profile, extensions)

    def extension(self, wanted: int) -> bytes | None:
        """The header extension with this id, if the packet carries it (RFC 8285, one- and two-byte forms)."""
        block = self.extensions
        if not block:
            return None
        one_byte = self.profile == ONE_BYTE_EXTENSIONS
        if not one_byte and self.profile & 0xFFF0 != TWO_BYTE_EXTENSIONS:
            return None
        at, size = 0, len(block)
        while at < size:
            first = block[at]
            if first == 0:
                at += 1
                continue
            if one_byte:
                number, length, at = first >> 4, (first & 0x0F) + 1, at + 1
                if number == 15:
                    return None
            else:
                if at + 1 >= size:
                    return None
                number, length, at = first, block[at + 1], at + 2
            if number == wanted:
                return block[at : at + length] if at + length <= size else None
            at += length
        return None


class ReorderBuffer:
    """Puts the packets of one sender in order, holding back what came before its turn.

    A gap is held open for `max_wait` seconds or `max_held` packets, then given up and counted in `lost`.
    Packets come out with sequence numbers that never wrap, so that a reader sees by them what is missing.
    """

    def __init__(self, *, max_held: int = MAX_HELD, max_wait: float = MAX_WAIT) -> None:
        self.lost = 0
        """Packets that never came, or came after they were given up."""
        self.late = 0
        """Packets that came twice or too late to be used."""
        self.restarts = 0
        """How often the sender's numbers restarted."""
        self._max_held = max_held
        self._max_wait = max_wait
        self._next: int | None = None
        self._held: dict[int, tuple[RtpPacket, float]] = {}
        self._highest = 0
        self._suspect: int | None = None

    def __len__(self) -> int:
        return len(self._held)

    @property
    def highest(self) -> int:
        """The highest sequence number so far, wraps counted in the bits above 16."""
        return self._highest

    def push(self, packet: RtpPacket, now: float) -> list[RtpPacket]:
        """Take a packet that arrived at `now` (monotonic seconds). Returns those that are next in order."""
        expected = self._next
        if expected is None:
            self._highest = packet.sequence
            self._next = packet.sequence + 1
            return [packet]
        ahead = (packet.sequence - expected + 0x8000 & 0xFFFF) - 0x8000
        sequence = expected + ahead
        if ahead > MAX_JUMP or ahead < -MAX_JUMP:
            return self._far_off(packet)
        self._suspect = None
        if ahead < 0 or sequence in self._held:
            self.late += 1
            return []
        packet.sequence = sequence
        if sequence > self._highest:
            self._highest = sequence
        if ahead == 0 and not self._held:
            self._next = sequence + 1
            return [packet]
        self._held[sequence] = (packet, now)
        ready = self._run()
        while len(self._held) > self._max_held:
            ready += self._give_up()
        return ready

    def expire(self, now: float) -> list[RtpPacket]:
        """Give up packets missing for too long. Returns the packets held behind them."""
        ready: list[RtpPacket] = []
        while self._held and now - self._held[min(self._held)][1] >= self._max_wait:
            ready += self._give_up()
        return ready

    def missing(self, limit: int = 256) -> dict[int, float]:
        """The sequence numbers (unwrapped) that packets held back wait for, and when the next one came."""
        missing: dict[int, float] = {}
        at = self._next
        for number in sorted(self._held):
            assert at is not None
            since = self._held[number][1]
            missing.update((gap, since) for gap in range(at, min(number, at + limit - len(missing))))
            at = number + 1
        return missing

    def _run(self) -> list[RtpPacket]:
        assert self._next is not None
        ready: list[RtpPacket] = []
        while (held := self._held.pop(self._next, None)) is not None:
            self._next += 1
            ready.append(held[0])
        return ready

    def _give_up(self) -> list[RtpPacket]:
        assert self._next is not None
        oldest = min(self._held)
        self.lost += oldest - self._next
        self._next = oldest
        return self._run()

    def _far_off(self, packet: RtpPacket) -> list[RtpPacket]:
        if packet.sequence != self._suspect:
            self._suspect = packet.sequence + 1 & 0xFFFF
            return []
        # Two in a row from elsewhere: the sender started over. Jump ahead by more than any gap, so that
        # the reader sees a break.
        self.restarts += 1
        self._suspect = None
        waiting = [self._held[number][0] for number in sorted(self._held)]
        self._held.clear()
        above = (self._highest | 0xFFFF) + 1 + packet.sequence
        packet.sequence = self._highest = above
        self._next = above + 1
        return [*waiting, packet]
