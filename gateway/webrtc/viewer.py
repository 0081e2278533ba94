"""A WHEP viewer: sends RTP payloads that all viewers share, with its own sequence numbers and keys."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct

from aiortc.rtp import RtcpPsfbPacket, RtcpRrPacket, RtcpRtpfbPacket
from structlog.typing import FilteringBoundLogger
from typing_extensions import override

from gateway.webrtc import rtcp
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.negotiation import Negotiation, RtpSource
from gateway.webrtc.peer import Peer
from gateway.webrtc.srtp import Packet
from gateway.webrtc.transport import SecureTransport

HISTORY = 512
"""Packets kept for retransmission, fewer than SRTP's replay window."""
RESENDS_PER_SECOND = 1000
"""Limit of packets that a viewer gets again; further requests are ignored."""
PACE = 5_000_000
"""Bytes per second at which a burst is sent, such as the GOP for a joining viewer."""
BURST = 96 * 1024
"""Bytes sent at once: less than a receiver's socket holds (92 packets, by Linux's default)."""
PACE_TICK = 0.005
MAX_BACKLOG = 4 << 20
"""Bytes waiting to be sent above which a viewer counts as congested."""

_header = Struct("!BBHII").pack
_VERSION = 0x80
_MARKER = 0x80


@dataclass(frozen=True)
class ViewerStats:
    packets: int
    bytes: int
    frames: int
    resent: int
    key_frames_asked: int
    fraction_lost: float
    """As the viewer last reported, 0 to 1."""


class Outgoing:
    """One outgoing RTP stream: everything in its packets but the payload."""

    def __init__(self, payload_type: int, cname: str) -> None:
        self.source = RtpSource(secrets.randbits(32) or 1, cname)
        self.payload_type = payload_type
        self.sequence = secrets.randbits(15)
        self.packets = 0
        self.octets = 0

    def packets_of(self, payloads: Sequence[bytes], timestamp: int, *, marker: bool) -> list[Packet]:
        """The next packets, one for each payload; `marker` sets the marker bit of the last."""
        time_line, kind, ssrc = timestamp & 0xFFFFFFFF, self.payload_type, self.source.ssrc
        first, past = self.sequence, self.sequence + len(payloads)
        self.sequence = past & 0xFFFF
        packets = [
            (_header(_VERSION, kind, sequence & 0xFFFF, time_line, ssrc), payload)
            for sequence, payload in zip(range(first, past), payloads, strict=True)
        ]
        if marker and packets:
            header = _header(_VERSION, kind | _MARKER, past - 1 & 0xFFFF, time_line, ssrc)
            packets[-1] = (header, payloads[-1])
        return packets


@dataclass(slots=True)
class _Waiting:
    """A picture of which not all is sent."""

    payloads: Sequence[bytes]
    timestamp: int
    sent: int = 0
    """Payloads that went out."""


class Viewer(Peer):
    """One viewer. Timestamps are those of the stream, 90 kHz and 48 kHz ticks of one time line.

    What is sent before the connection is up is dropped. `on_key_frame_needed` is called when the viewer
    asks for a key frame.
    """

    PUBLISHING = False
    TICK = 1.0

    def __init__(
        self,
        negotiation: Negotiation,
        config: WebRtcConfig,
        log: FilteringBoundLogger,
        *,
        transport: SecureTransport | None = None,
    ) -> None:
        super().__init__(negotiation, config, log, transport=transport)
        self.on_key_frame_needed: Callable[[], None] | None = None
        cname = secrets.token_hex(8)
        self._cname = cname
        self._video = Outgoing(negotiation.video.codec.payload_type, cname)
        self._audio = Outgoing(negotiation.audio.codec.payload_type, cname) if negotiation.audio else None
        self._history: deque[Packet] = deque(maxlen=HISTORY)
        self._backlog: deque[_Waiting] = deque()
        self._backlog_bytes = 0
        self._allowance = float(BURST)
        self._allowed_at = 0.0
        self._pacer: asyncio.TimerHandle | None = None
        self._up = False
        self._time_line: int | None = None
        self._frames = 0
        self._resent = 0
        self._resends_left = RESENDS_PER_SECOND
        self._key_frames_asked = 0
        self._fraction_lost = 0.0

    @classmethod
    async def answer_offer(
        cls, offer: str, *, config: WebRtcConfig, log: FilteringBoundLogger, profile: str = ""
    ) -> Viewer:
        """Take a viewer's SDP offer. Raises OfferRefused, with nothing left behind.

        `profile` is the stream's, as in `Negotiation.of`.
        """
        viewer = cls(Negotiation.of(offer, publishing=False, profile=profile), config, log)
        await viewer.open()
        return viewer

    @override
    def _sources(self) -> dict[str, RtpSource]:
        audio = {} if self._audio is None else {"audio": self._audio.source}
        return {"video": self._video.source, **audio}

    def send_video(self, payloads: Sequence[bytes], timestamp: int, key: bool) -> None:
        """Send one access unit's RTP payloads; `timestamp` in 90 kHz ticks that never wrap."""
        del key
        if not self._up:
            return
        self._time_line = timestamp
        self._frames += 1
        size = sum(map(len, payloads))
        self._refill(time.monotonic())
        if size <= self._allowance and not self._backlog:
            self._send(self._video.packets_of(payloads, timestamp, marker=True), size)
            return
        self._backlog.append(_Waiting(payloads, timestamp))
        self._backlog_bytes += size
        if self._pacer is None:
            self._drain()

    def send_audio(self, payload: bytes, timestamp: int) -> None:
        """Send one Opus packet; `timestamp` in 48 kHz ticks that never wrap."""
        audio = self._audio
        if audio is None or not self._up:
            return
        if self._time_line is None:
            self._time_line = timestamp * 15 // 8
        audio.packets += 1
        audio.octets += len(payload)
        self._transport.send_rtp(audio.packets_of([payload], timestamp, marker=False))

    def congested(self) -> bool:
        """Whether more waits to be sent than a viewer at live speed ever has."""
        return self._backlog_bytes > MAX_BACKLOG or self._transport.congested

    def stats(self) -> ViewerStats:
        audio = self._audio
        return ViewerStats(
            packets=self._video.packets + (audio.packets if audio else 0),
            bytes=self._video.octets + (audio.octets if audio else 0),
            frames=self._frames,
            resent=self._resent,
            key_frames_asked=self._key_frames_asked,
            fraction_lost=self._fraction_lost,
        )

    @override
    async def close(self) -> None:
        self._up = False
        if self._pacer is not None:
            self._pacer.cancel()
            self._pacer = None
        self._backlog.clear()
        self._backlog_bytes = 0
        self._history.clear()
        await super().close()

    # sending

    def _send(self, packets: Sequence[Packet], size: int) -> None:
        """Send them at once; `size` is the bytes of payload that they are."""
        self._video.packets += len(packets)
        self._video.octets += size
        self._allowance -= size
        self._history += packets
        self._transport.send_rtp(packets)

    def _refill(self, now: float) -> None:
        self._allowance = min(BURST, self._allowance + (now - self._allowed_at) * PACE)
        self._allowed_at = now

    def _drain(self) -> None:
        """Send as much of the backlog as is allowed now, and schedule the rest."""
        self._pacer = None
        self._refill(time.monotonic())
        packets: list[Packet] = []
        size = 0
        while self._backlog and size < self._allowance:
            waiting = self._backlog[0]
            begin, end = waiting.sent, len(waiting.payloads)
            while waiting.sent < end and size < self._allowance:
                size += len(waiting.payloads[waiting.sent])
                waiting.sent += 1
            complete = waiting.sent == end
            part = waiting.payloads[begin : waiting.sent]
            packets += self._video.packets_of(part, waiting.timestamp, marker=complete)
            if complete:
                self._backlog.popleft()
        self._backlog_bytes -= size
        self._send(packets, size)
        if self._backlog:
            self._pacer = asyncio.get_running_loop().call_later(PACE_TICK, self._drain)

    # reports

    @override
    def _connected(self, now: float) -> None:
        self._allowed_at = now
        self._up = True

    @override
    def _tick(self, now: float) -> None:
        del now
        self._resends_left = RESENDS_PER_SECOND
        line = self._time_line
        if line is None:
            return
        # One time for both streams: players synchronise sound and picture by it.
        ntp = rtcp.ntp_time()
        self._transport.send_rtcp(self._report(self._video, ntp, line))
        if self._audio is not None:
            self._transport.send_rtcp(self._report(self._audio, ntp, line * 8 // 15))

    def _report(self, stream: Outgoing, ntp: int, timestamp: int) -> bytes:
        return rtcp.sender_report(
            stream.source.ssrc,
            ntp=ntp,
            timestamp=timestamp,
            packets=stream.packets,
            octets=stream.octets,
            cname=self._cname,
        )

    @override
    def on_rtp(self, data: bytes) -> None:
        """Viewers send no media: drop it."""

    @override
    def on_rtcp(self, data: bytes) -> None:
        ssrc = self._video.source.ssrc
        for packet in rtcp.parse(data):
            if isinstance(packet, RtcpRtpfbPacket):
                if packet.fmt == rtcp.NACK and packet.media_ssrc == ssrc:
                    self._repeat(packet.lost)
            elif isinstance(packet, RtcpPsfbPacket):
                if packet.fmt in (rtcp.PLI, rtcp.FIR):
                    self._key_frames_asked += 1
                    if self.on_key_frame_needed is not None:
                        self.on_key_frame_needed()
            elif isinstance(packet, RtcpRrPacket):
                for report in packet.reports:
                    if report.ssrc == ssrc:
                        self._fraction_lost = report.fraction_lost / 256

    def _repeat(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            age = self._video.sequence - number & 0xFFFF
            if 0 < age <= len(self._history) and self._resends_left > 0 and self._up:
                self._resends_left -= 1
                self._resent += 1
                self._transport.send_rtp([self._history[-age]])
