"""Congestion feedback: transport-wide arrival times, or else an estimate of the rate."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from struct import Struct

from gateway.media.clock import Unwrapper

TRANSPORT_FEEDBACK = 15
"""The FMT of transport-wide feedback among the RTPFB packets."""
DELTAS_PER_SECOND = 4000
"""Arrival times are in units of 250 us."""
_STEPS_PER_REFERENCE = 256
"""Steps in one unit of the reference time, 64 ms."""
MAX_STATUSES = 400
"""Limit of packets reported in one feedback packet, so that it fits a datagram."""
MAX_PACKETS = 32
"""Limit of feedback packets at once: a sender of 8 Mbit/s needs one or two."""
MAX_ARRIVALS = MAX_PACKETS * MAX_STATUSES
MAX_GAP = 2000
"""Limit of a gap that is reported as loss; over a longer one, either way, the sender has restarted."""

_HEAD = Struct("!BBHIIHH")
_LOST, _NEAR, _FAR = 0, 1, 2


class TransportFeedback:
    """Arrival times of all packets of one transport, as RTCP for their sender.

    (draft-holmer-rmcat-transport-wide-cc-extensions-01.) The sender's congestion control, Google's in
    browsers, works from these alone.
    """

    def __init__(self) -> None:
        self._unwrapper = Unwrapper(16)
        self._arrivals: dict[int, int] = {}
        self._next: int | None = None
        """One above the highest number that was reported, as lost or with its arrival."""
        self._count = 0

    def arrived(self, number: int, now: float) -> None:
        """Note that the packet with this transport-wide number (16 bits) arrived at `now` (monotonic)."""
        if len(self._arrivals) < MAX_ARRIVALS:
            self._arrivals[self._unwrapper.unwrap(number)] = int(now * DELTAS_PER_SECOND)

    def packets(self, sender: int, media: int) -> list[bytes]:
        """RTCP for all packets that arrived since the last call; no more than MAX_PACKETS of it."""
        packets: list[bytes] = []
        numbers = deque(sorted(self._arrivals))
        while numbers and len(packets) < MAX_PACKETS:
            packets.append(self._packet(numbers, sender, media))
        if numbers:
            self._next = numbers[-1] + 1
        self._arrivals.clear()
        return packets

    def _packet(self, numbers: deque[int], sender: int, media: int) -> bytes:
        """RTCP for the first of these numbers, which are taken off."""
        oldest, newest = numbers[0], numbers[-1]
        reported = self._next
        if reported is None or abs(oldest - reported) >= MAX_GAP:
            reported = oldest
        base = min(oldest, reported)
        reference = self._arrivals[oldest] // _STEPS_PER_REFERENCE
        at = reference * _STEPS_PER_REFERENCE
        symbols: list[int] = []
        deltas = bytearray()
        for number in range(base, min(newest, base + MAX_STATUSES - 1) + 1):
            if not numbers or number != numbers[0]:
                if number < reported:
                    break  # a late packet's neighbours are known: they are not to be taken for lost
                symbols.append(_LOST)
                continue
            arrival = self._arrivals[number]
            delta = arrival - at
            if not -0x8000 <= delta <= 0x7FFF:
                break
            near = 0 <= delta <= 0xFF
            symbols.append(_NEAR if near else _FAR)
            deltas += delta.to_bytes(1 if near else 2, "big", signed=not near)
            at = arrival
            numbers.popleft()
        self._next = max(reported, base + len(symbols))
        body = reference.to_bytes(8, "big")[5:] + bytes([self._count & 0xFF]) + _chunks(symbols) + deltas
        self._count += 1
        body += bytes(-len(body) % 4)
        head = _HEAD.pack(
            0x80 | TRANSPORT_FEEDBACK, 205, 3 + len(body) // 4, sender, media, base & 0xFFFF, len(symbols)
        )
        return head + body


def _chunks(symbols: Sequence[int]) -> bytes:
    """Packet status chunks: run lengths for seven alike or more, else vectors of seven two-bit symbols."""
    out = bytearray()
    at, size = 0, len(symbols)
    while at < size:
        run = 1
        while at + run < size and symbols[at + run] == symbols[at]:
            run += 1
        if run >= 7 or at + run == size:
            out += (symbols[at] << 13 | run).to_bytes(2, "big")
            at += run
            continue
        chunk = 0xC000
        for place, symbol in enumerate(symbols[at : at + 7]):
            chunk |= symbol << 12 - 2 * place
        out += chunk.to_bytes(2, "big")
        at += 7
    return bytes(out)


class LossBasedEstimate:
    """A bit rate estimated from loss alone, for senders without transport-wide feedback: 8 % more each second
    without loss, less with loss.

    (The loss half of draft-ietf-rmcat-gcc-02, section 6.)
    """

    MIN = 150_000

    def __init__(self, start: int, highest: int) -> None:
        self.bits_per_second = start
        self._highest = highest

    def update(self, fraction_lost: float, received: int) -> int:
        """Update with one second's loss (0 to 1) and received bits. Returns bits per second."""
        if fraction_lost > 0.1:
            self.bits_per_second = int(min(self.bits_per_second, received * 1.25) * (1 - fraction_lost / 2))
        elif fraction_lost < 0.02:
            self.bits_per_second = int(self.bits_per_second * 1.08)
        self.bits_per_second = max(self.MIN, min(self.bits_per_second, self._highest))
        return self.bits_per_second
