"""Reception of one RTP stream: order, loss, jitter, and its sender's clock."""

from __future__ import annotations

from dataclasses import dataclass

from aiortc.rtp import RtcpReceiverInfo, RtcpSenderInfo

from gateway.media.rtp import ReorderBuffer, RtpPacket

NACK_AFTER = 0.01
"""Minimum of `nack_after`: a packet that is only reordered comes within that."""
NACK_EVERY = 0.05
"""Minimum of `nack_every`: time for the sender to repeat a packet."""
NACK_LATEST = 0.15
"""Maximum of both on a jittery or slow path: several requests must fit into the wait for a packet."""
NACK_TOGETHER = 0.002
"""Seconds by which a request may be early, to go in one NACK with others."""


@dataclass(frozen=True)
class SenderClock:
    """A sender report's mapping: at NTP time `ntp` (64 bits, 32.32 seconds) the stream was at `ticks`."""

    ntp: int
    ticks: int
    """Unwrapped, in the stream's own clock rate."""


class Reception:
    """One incoming RTP stream: takes every packet, makes NACK lists and report blocks."""

    def __init__(self, ssrc: int, clock_rate: int, *, max_wait: float) -> None:
        self.ssrc = ssrc
        self.buffer = ReorderBuffer(max_wait=max_wait)
        self.clock: SenderClock | None = None
        self.fraction_lost = 0.0
        """Between the last two reports."""
        self._clock_rate = clock_rate
        self._received = 0
        self._first: int | None = None
        self._reported_received = 0
        self._reported_expected = 0
        self._jitter = 0.0
        self._transit: float | None = None
        self._report: tuple[int, float] | None = None
        self.asked: dict[int, tuple[float, float]] = {}
        """When each missing packet was asked for, first and last."""
        self._round_trip = 0.0

    @property
    def received(self) -> int:
        """Packets that came, repetitions apart."""
        return self._received

    @property
    def nack_after(self) -> float:
        """Seconds that a packet may be late before it is asked for."""
        # A packet that jitter has delayed still comes; asked for, it would come twice.
        return min(NACK_LATEST, max(NACK_AFTER, 3 * self._jitter / self._clock_rate))

    @property
    def nack_every(self) -> float:
        """Seconds before asking again: the round trip measured on retransmissions."""
        return min(NACK_LATEST, max(NACK_EVERY, self._round_trip))

    def ask(self, now: float) -> tuple[list[int], float]:
        """The packets to ask for now (unwrapped sequence numbers), and the seconds until the next call."""
        after, every = self.nack_after, self.nack_every
        former, self.asked = self.asked, {}
        due, wait = [], after
        for number, since in self.buffer.missing().items():
            asked = former.get(number)
            left = (since + after if asked is None else asked[1] + every) - now
            if left < NACK_TOGETHER:
                due.append(number)
                asked = (now if asked is None else asked[0], now)
            else:
                wait = min(wait, left)
            if asked is not None:
                self.asked[number] = asked
        return due, wait

    def push(self, packet: RtpPacket, now: float, *, repeated: bool = False) -> list[RtpPacket]:
        """Take a packet, a retransmission if `repeated`. Returns the packets that are next in order."""
        if not repeated:
            self._received += 1
            if packet.marker:
                self._measure_jitter(packet.timestamp, now)
        restarts = self.buffer.restarts
        ready = self.buffer.push(packet, now)
        if repeated and (asked := self.asked.pop(packet.sequence, None)) is not None:
            self._round_trip += (now - asked[0] - self._round_trip) / 8
        if self._first is None or self.buffer.restarts != restarts:
            self._count_from_here()
        return ready

    def sender_reported(self, info: RtcpSenderInfo, ticks: int, now: float) -> None:
        """Take a sender report; `ticks` is its RTP timestamp, unwrapped."""
        self.clock = SenderClock(info.ntp_timestamp, ticks)
        self._report = (info.ntp_timestamp, now)

    def report(self, now: float) -> RtcpReceiverInfo | None:
        """The report block since the former one (RFC 3550, 6.4.1 and A.3); None before the first packet."""
        if self._first is None:
            return None
        highest = self.buffer.highest
        expected = highest - self._first + 1
        lost = expected - self._received
        new_expected = expected - self._reported_expected
        new_lost = new_expected - (self._received - self._reported_received)
        self._reported_expected, self._reported_received = expected, self._received
        self.fraction_lost = min(1.0, max(0.0, new_lost / new_expected)) if new_expected > 0 else 0.0
        last_report, since = 0, 0
        if self._report is not None:
            ntp, at = self._report
            last_report = ntp >> 16 & 0xFFFFFFFF
            since = min(int((now - at) * 65536), 0xFFFFFFFF)
        return RtcpReceiverInfo(
            ssrc=self.ssrc,
            fraction_lost=min(255, int(self.fraction_lost * 256)),
            packets_lost=max(-(1 << 23), min(lost, (1 << 23) - 1)),
            highest_sequence=highest & 0xFFFFFFFF,
            jitter=int(self._jitter),
            lsr=last_report,
            dlsr=since,
        )

    def _count_from_here(self) -> None:
        # RFC 3550, A.1: numbers skipped by a sender that starts over were never sent, so none is lost.
        self._first = self.buffer.highest
        self._received = 1
        self._reported_expected = self._reported_received = 0

    def _measure_jitter(self, timestamp: int, now: float) -> None:
        # RFC 3550, A.8, once a frame: its packets have one timestamp, and their spread is no jitter.
        transit = now * self._clock_rate - timestamp
        if self._transit is not None:
            difference = abs(transit - self._transit)
            if difference < self._clock_rate:
                self._jitter += (difference - self._jitter) / 16
        self._transit = transit
