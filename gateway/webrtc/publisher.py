"""A WHIP publisher: RTP in, access units and Opus packets out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

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
from gateway.webrtc.feedback import KEY_FRAME_EVERY, KEY_FRAME_SPACING, Feedback
from gateway.webrtc.ingest import AudioStats, IngestMeter, IngestStats
from gateway.webrtc.layers import Layers
from gateway.webrtc.negotiation import Negotiation
from gateway.webrtc.peer import Peer
from gateway.webrtc.reception import Reception
from gateway.webrtc.transport import SecureTransport

VIDEO_WAIT = 0.4
"""Seconds a missing video packet is asked for before it is given up."""
REORDER_WAIT = 0.1
"""Seconds a missing packet is waited for where nobody can send it again."""
AUDIO_LIVE = 2.0
"""Seconds since the last packet of sound within which it counts as coming."""
SOURCE_SILENT = 1.0
"""Seconds without a packet after which another SSRC may take the place of the video's."""


class Publisher(Peer):
    """One publisher. Frames are handed to the sink in the datagram callback that completes them.

    Video pts are RTP's timestamps, unwrapped; audio is put on the same time line. The sink gets nothing
    before the first key frame, and no audio before the first video. `monotonic` gives seconds.
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
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(negotiation, config, log, transport=transport)
        self.garbage = 0
        """Packets that were not RTP, or of a payload type that was not agreed."""
        video, audio = negotiation.video, negotiation.audio
        self.feedback = Feedback(video, config, self._transport)
        self._sink = sink
        self._monotonic = monotonic
        self._video_type = video.codec.payload_type
        self._rtx_type = video.rtx.payload_type if video.rtx else None
        self._audio_type = audio.codec.payload_type if audio else None
        self._layers = Layers(video)
        self._rejected = negotiation.rejected
        sprop = video.codec.parameters.get("sprop-parameter-sets", "")
        self._depacketizer = Depacketizer(ParameterSets(sprop))
        self._video: Reception | None = None
        self._video_clock = clock if clock is not None else VideoClock()
        self._timestamp = -1
        self._pts = 0
        self._last_video_packet = 0.0
        self._audio: Reception | None = None
        self._last_audio_packet = float("-inf")
        self._audio_ticks = Unwrapper(32)
        self._audio_clock = AudioClock()
        self._meter = IngestMeter()

    @classmethod
    async def answer_offer(
        cls, offer: str, *, config: WebRtcConfig, sink: FrameSink, log: FilteringBoundLogger
    ) -> Publisher:
        """Take a publisher's SDP offer. Raises OfferRefused, with nothing left behind."""
        publisher = cls(Negotiation.of(offer, publishing=True), config, sink, log)
        await publisher.open()
        return publisher

    def request_key_frame(self, spacing: float = KEY_FRAME_SPACING) -> None:
        """Ask the encoder for a key frame, unless it was asked within the last `spacing` seconds."""
        self.feedback.request_key_frame(self._monotonic(), spacing)

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
        """Limit the encoder to this rate, for the path after the gateway; None lifts that."""
        self.feedback.limit_bitrate(bits_per_second)

    def stats(self) -> IngestStats:
        """How the ingest is doing."""
        now = self._monotonic()
        return self._meter.stats(
            now,
            pictures=self._depacketizer,
            lost=self._video.buffer.lost if self._video else 0,
            audio=self._audio_stats(now) if self.audio_agreed else None,
            ignores_requests=self.feedback.ignores_requests,
            layer=self._layers.shown,
            rejected=self._rejected,
        )

    def _audio_stats(self, now: float) -> AudioStats:
        audio = self._audio
        return AudioStats(
            packets=audio.received if audio else 0,
            packets_lost=audio.buffer.lost if audio else 0,
            packets_dropped=self._audio_clock.dropped,
            live=now - self._last_audio_packet < AUDIO_LIVE,
        )

    @override
    async def close(self) -> None:
        self.feedback.close()
        await super().close()

    # packets

    @override
    def on_rtp(self, data: bytes) -> None:
        now = self._monotonic()
        try:
            packet = RtpPacket.parse(data)
        except ValueError:
            self.garbage += 1
            return
        self.feedback.arrived(packet, now)
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
            silent = video is None or now - self._last_video_packet > SOURCE_SILENT
            if not self._layers.take_over(packet, self.size, silent=silent):
                return
            video = self._begin_video(packet.ssrc, now)
        self._last_video_packet = now
        self._read_video(video.push(packet, now), now)
        if len(video.buffer):
            self.feedback.ask_for_missing(self._give_up)

    def _begin_video(self, ssrc: int, now: float) -> Reception:
        wait = VIDEO_WAIT if self.feedback.can_nack else REORDER_WAIT
        self._video_clock.another_sender()
        self._timestamp = -1
        self._video = Reception(ssrc, 90_000, max_wait=wait)
        self._depacketizer.start_over()
        self.feedback.begin_video(self._video, now)
        return self._video

    def _take_repeated(self, packet: RtpPacket, now: float) -> None:
        video = self._video
        if video is None or not self._layers.repairs_shown(packet):
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
            self.feedback.request_key_frame(now, KEY_FRAME_SPACING if could_decode else KEY_FRAME_EVERY)

    def _give_up(self, now: float) -> None:
        """Go on without video packets that have been missing for too long."""
        if self._video is not None:
            self._read_video(self._video.buffer.expire(now), now)

    def _deliver(self, unit: AccessUnit, now: float) -> None:
        self._meter.frame(unit, now)
        if unit.key:
            self.feedback.key_frame_came()
        self._audio_clock.video_came(unit.pts, now)
        self._sink(unit)

    def _take_audio(self, packet: RtpPacket, now: float) -> None:
        self._last_audio_packet = now
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

    # reports

    @override
    def _connected(self, now: float) -> None:
        self.feedback.connected(now)

    @override
    def _tick(self, now: float) -> None:
        self._meter.sample(now)
        self.feedback.send_arrivals(now)
        self.feedback.report(now, self._audio, self._meter.bits_per_second)

    @override
    def on_rtcp(self, data: bytes) -> None:
        # the sender's round trip is reckoned with it, so our own lateness is none of its
        now = self._transport.arrived_at(self._monotonic())
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
