"""A WHIP publisher: RTP in, access units and Opus packets out, feedback to the encoder."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence

from aiortc.rtp import RtcpSrPacket
from structlog.typing import FilteringBoundLogger
from typing_extensions import override

from gateway.media import opus
from gateway.media.clock import Unwrapper, VideoClock
from gateway.media.frames import AccessUnit, FrameSink, OpusPacket
from gateway.media.h264 import ParameterSets
from gateway.media.rtp import RtpPacket
from gateway.media.rtp_h264 import Depacketizer
from gateway.webrtc import rtcp
from gateway.webrtc.audio_clock import AudioClock
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.congestion import LossBasedEstimate, TransportFeedback
from gateway.webrtc.ingest import IngestMeter, IngestStats
from gateway.webrtc.negotiation import RID, TRANSPORT_CC, Negotiation
from gateway.webrtc.peer import Peer
from gateway.webrtc.reception import Reception
from gateway.webrtc.transport import SecureTransport

VIDEO_WAIT = 0.4
"""Seconds a missing video packet is asked for before it is given up."""
REORDER_WAIT = 0.1
"""Seconds a missing packet is waited for where nobody can send it again."""
KEY_FRAME_SPACING = 0.5
"""Seconds between two requests for a key frame, whoever asks."""
KEY_FRAME_EVERY = 2.0
"""Seconds between the requests that waiting for one repeats."""
SOURCE_SILENT = 1.0
"""Seconds without a packet after which another SSRC may take the place of the video's."""
REPORT_EVERY = 1.0
FEEDBACK_EVERY = 0.1
"""Seconds between two packets of transport-wide feedback."""


class Publisher(Peer):
    """One publisher. Frames are handed to the sink in the datagram callback that completes them.

    Video pts are RTP's timestamps, unwrapped; audio is put on the same time line. The sink gets nothing
    before the first key frame, and no audio before the first video.
    """

    PUBLISHING = True
    TICK = 0.5

    def __init__(
        self,
        negotiation: Negotiation,
        config: WebRtcConfig,
        sink: FrameSink,
        log: FilteringBoundLogger,
        *,
        transport: SecureTransport | None = None,
        clock: VideoClock | None = None,
    ) -> None:
        super().__init__(negotiation, config, log, transport=transport)
        self.garbage = 0
        """Packets that were no RTP or of payload types that were not agreed."""
        video, audio = negotiation.video, negotiation.audio
        self._sink = sink
        self._ssrc = secrets.randbits(32) or 1
        self._video_type = video.codec.payload_type
        self._rtx_type = video.rtx.payload_type if video.rtx else None
        self._audio_type = audio.codec.payload_type if audio else None
        self._rid = video.rid.encode() if video.rid else None
        self._rid_id = video.extensions.get(RID, 0)
        self._can_nack = "nack" in video.feedback
        self._transport_cc_id = video.extensions.get(TRANSPORT_CC, 0)
        self._arrivals = TransportFeedback() if self._transport_cc_id else None
        self._takes_remb = "goog-remb" in video.feedback
        self._estimate = (
            LossBasedEstimate(config.start_bitrate_kbps * 1000, config.max_bitrate_kbps * 1000)
            if self._arrivals is None and self._takes_remb
            else None
        )
        self._rate_limit: int | None = None
        self._sprop = video.codec.parameters.get("sprop-parameter-sets", "")
        self._depacketizer = Depacketizer(ParameterSets(self._sprop))
        self._video: Reception | None = None
        self._video_clock = clock if clock is not None else VideoClock()
        self._timestamp = -1
        self._pts = 0
        self._last_video_packet = 0.0
        self._audio: Reception | None = None
        self._audio_ticks = Unwrapper(32)
        self._audio_clock = AudioClock()
        self._meter = IngestMeter()
        self._nack_timer: asyncio.TimerHandle | None = None
        self._last_request = float("-inf")
        self._last_report = 0.0
        self._feedback_due = 0.0

    @classmethod
    async def answer_offer(
        cls, offer: str, *, config: WebRtcConfig, sink: FrameSink, log: FilteringBoundLogger
    ) -> Publisher:
        """Take a publisher's SDP offer. Raises OfferRefused, with nothing left behind."""
        publisher = cls(Negotiation.of(offer, publishing=True), config, sink, log)
        await publisher._open()
        return publisher

    def request_key_frame(self, spacing: float = KEY_FRAME_SPACING) -> None:
        """Ask the encoder for a key frame, unless it was asked within the last `spacing` seconds."""
        self._request_key_frame(time.monotonic(), spacing)

    @property
    def audio_agreed(self) -> bool:
        """Whether sound was agreed."""
        return self._audio_type is not None

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the pictures in pixels; None before the first key frame."""
        sps = self._depacketizer.parameter_sets.sps
        return sps.size if sps is not None else None

    def limit_bitrate(self, bits_per_second: int | None) -> None:
        """Have the encoder stay under this rate too, for the sake of the path beyond the gateway."""
        self._rate_limit = bits_per_second

    def stats(self) -> IngestStats:
        """How the ingest is doing."""
        return self._meter.stats(
            time.monotonic(),
            sps=self._depacketizer.parameter_sets.sps,
            lost=self._video.buffer.lost if self._video else 0,
            damaged=self._depacketizer.damaged,
            b_frames=self._depacketizer.b_frames,
        )

    @override
    async def close(self) -> None:
        if self._nack_timer is not None:
            self._nack_timer.cancel()
            self._nack_timer = None
        await super().close()

    # packets

    @override
    def on_rtp(self, data: bytes) -> None:
        now = time.monotonic()
        try:
            packet = RtpPacket.parse(data)
        except ValueError:
            self.garbage += 1
            return
        if self._arrivals is not None:
            number = packet.extension(self._transport_cc_id)
            if number is not None and len(number) == 2:
                self._arrivals.arrived(int.from_bytes(number, "big"), now)
            if now >= self._feedback_due:
                self._send_feedback(self._arrivals, now)
        kind = packet.payload_type
        if kind == self._video_type:
            self._meter.media(now, len(data))
            self._take_video(packet, now)
        elif kind == self._audio_type:
            self._meter.media(now, len(data))
            self._take_audio(packet, now)
        elif kind == self._rtx_type:
            self._take_repeated(packet, now)
        else:
            self.garbage += 1

    def _take_video(self, packet: RtpPacket, now: float) -> None:
        video = self._video
        if video is None or packet.ssrc != video.ssrc:
            if not self._is_our_source(packet, now):
                return
            video = self._begin_video(packet.ssrc, now)
        self._last_video_packet = now
        self._read_video(video.push(packet, now), now)
        if len(video.buffer) and self._nack_timer is None:
            self._nack_timer = asyncio.get_running_loop().call_later(video.nack_after, self._chase)

    def _take_repeated(self, packet: RtpPacket, now: float) -> None:
        video = self._video
        if video is None:
            return
        original = rtcp.unwrap_rtx(packet, self._video_type, video.ssrc)
        if original is not None:
            self._read_video(video.push(original, now, repeated=True), now)

    def _read_video(self, packets: Sequence[RtpPacket], now: float) -> None:
        depacketizer = self._depacketizer
        could_decode = not depacketizer.needs_key_frame
        for packet in packets:
            if packet.timestamp != self._timestamp:
                self._timestamp = packet.timestamp
                self._pts = self._video_clock.ticks(packet.timestamp, now)
            for unit in depacketizer.push(packet, self._pts):
                self._deliver(unit, now)
        if depacketizer.needs_key_frame:
            self._request_key_frame(now, KEY_FRAME_SPACING if could_decode else KEY_FRAME_EVERY)

    def _deliver(self, unit: AccessUnit, now: float) -> None:
        self._meter.frame(unit, now)
        self._audio_clock.video_came(unit.pts, now)
        self._sink(unit)

    def _take_audio(self, packet: RtpPacket, now: float) -> None:
        audio = self._audio
        if audio is None or packet.ssrc != audio.ssrc:
            audio = self._audio = Reception(packet.ssrc, 48_000, max_wait=REORDER_WAIT)
            self._audio_ticks.reset()
            self._audio_clock.forget_audio()
        for ready in [*audio.push(packet, now), *audio.buffer.expire(now)]:
            ticks = self._audio_ticks.unwrap(ready.timestamp)
            if not ready.payload:
                continue
            pts = self._audio_clock.pts(ticks, opus.duration(ready.payload), now)
            if pts is not None:
                self._sink(OpusPacket(ready.payload, pts))

    # sources

    def _is_our_source(self, packet: RtpPacket, now: float) -> bool:
        """Whether an SSRC not seen before is the video, and not another simulcast layer."""
        # A sender that was left one layer only need not name it any more.
        rid = packet.extension(self._rid_id) if self._rid is not None else None
        if rid is not None:
            return rid == self._rid
        return self._video is None or now - self._last_video_packet > SOURCE_SILENT

    def _begin_video(self, ssrc: int, now: float) -> Reception:
        wait = VIDEO_WAIT if self._can_nack else REORDER_WAIT
        self._video = Reception(ssrc, 90_000, max_wait=wait)
        self._depacketizer.start_over()
        # The first picture may well be a key frame on its way: do not ask for another just yet.
        self._last_request = now + KEY_FRAME_SPACING - KEY_FRAME_EVERY
        return self._video

    # feedback

    def _chase(self) -> None:
        """Ask again for what is missing, and give up what has been missing for too long."""
        self._nack_timer = None
        video = self._video
        if video is None:
            return
        now = time.monotonic()
        self._read_video(video.buffer.expire(now), now)
        if not len(video.buffer):
            return
        wait = video.nack_every
        if self._can_nack:
            numbers, wait = video.ask(now)
            if numbers:
                self._transport.send_rtcp(rtcp.nack(self._ssrc, video.ssrc, numbers))
        self._nack_timer = asyncio.get_running_loop().call_later(wait, self._chase)

    def _request_key_frame(self, now: float, spacing: float) -> None:
        if self._video is not None and now - self._last_request >= spacing:
            self._last_request = now
            self._transport.send_rtcp(rtcp.pli(self._ssrc, self._video.ssrc))

    @override
    def _connected(self, now: float) -> None:
        self._last_report = now

    @override
    def _tick(self, now: float) -> None:
        self._meter.sample(now)
        if self._arrivals is not None:
            self._send_feedback(self._arrivals, now)
        if now - self._last_report >= REPORT_EVERY - self.TICK / 2:
            self._last_report = now
            self._send_reports(now)

    def _send_feedback(self, arrivals: TransportFeedback, now: float) -> None:
        # With the packets it tells of, and not by a timer: a process that sleeps is expensive to wake.
        if self._video is not None:
            self._feedback_due = now + FEEDBACK_EVERY
            for packet in arrivals.packets(self._ssrc, self._video.ssrc):
                self._transport.send_rtcp(packet)

    def _send_reports(self, now: float) -> None:
        streams = [stream for stream in (self._video, self._audio) if stream is not None]
        blocks = [block for stream in streams if (block := stream.report(now)) is not None]
        if not blocks:
            return
        compound = rtcp.receiver_report(self._ssrc, blocks)
        if self._video is not None and self._takes_remb:
            rates = [self._rate_limit] if self._rate_limit is not None else []
            if self._estimate is not None:
                rates.append(self._estimate.update(self._video.fraction_lost, self._meter.bits_per_second))
            if rates:
                compound += rtcp.remb(self._ssrc, [self._video.ssrc], min(rates))
        self._transport.send_rtcp(compound)

    @override
    def on_rtcp(self, data: bytes) -> None:
        now = time.monotonic()
        for packet in rtcp.parse(data):
            if not isinstance(packet, RtcpSrPacket):
                continue
            info = packet.sender_info
            if self._video is not None and packet.ssrc == self._video.ssrc:
                if self._timestamp >= 0:
                    ticks = self._video_clock.at(info.rtp_timestamp)
                    self._video.sender_reported(info, ticks, now)
            elif self._audio is not None and packet.ssrc == self._audio.ssrc:
                self._audio.sender_reported(info, self._audio_ticks.near(info.rtp_timestamp), now)
        if self._video is not None and self._audio is not None:
            self._audio_clock.align(self._video.clock, self._audio.clock)
