"""RTCP to a publisher: losses, arrival times, rates, and requests for key frames."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable

from gateway.media.rtp import RtpPacket
from gateway.webrtc import rtcp
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.congestion import LossBasedEstimate, TransportFeedback
from gateway.webrtc.reception import Reception
from gateway.webrtc.tracks import TRANSPORT_CC, Track
from gateway.webrtc.transport import SecureTransport

KEY_FRAME_SPACING = 0.5
"""Seconds between two requests for a key frame, whoever asks."""
KEY_FRAME_EVERY = 2.0
"""Seconds between the requests that waiting for one repeats."""
REPORT_EVERY = 0.75
"""Seconds between two reports at least: one for every other tick of a publisher."""
UNANSWERED = 3
"""Requests between two key frames with which an encoder counts as one that does not listen."""
ARRIVALS_EVERY = 0.05
"""Seconds between two packets of transport-wide feedback: as often as browsers send it to each other."""


class Feedback:
    """NACK, PLI, transport-wide feedback, receiver reports and REMB, as agreed for the video.

    Nothing is sent before `begin_video`. Times are seconds of the monotonic clock.
    """

    def __init__(self, video: Track, config: WebRtcConfig, transport: SecureTransport) -> None:
        self.can_nack = "nack" in video.feedback
        self.ignores_requests = False
        """Whether the encoder makes no key frame when it is asked for one."""
        self._takes_fir = "ccm fir" in video.feedback
        self._takes_pli = "nack pli" in video.feedback
        self._requests = 0
        self._requests_since_key = 0
        self._transport = transport
        self._ssrc = secrets.randbits(32) or 1
        self._video: Reception | None = None
        self._transport_cc_id = video.extensions.get(TRANSPORT_CC, 0)
        self._arrivals = TransportFeedback() if self._transport_cc_id else None
        self._arrivals_due = 0.0
        self._takes_remb = "goog-remb" in video.feedback
        self._estimate = (
            LossBasedEstimate(config.start_bitrate_kbps * 1000, config.max_bitrate_kbps * 1000)
            if self._arrivals is None and self._takes_remb
            else None
        )
        self._rate_limit: int | None = None
        self._nack_timer: asyncio.TimerHandle | None = None
        self._last_request = float("-inf")
        self._last_report = 0.0

    def begin_video(self, video: Reception, now: float) -> None:
        """From now on `video` is the stream that feedback is about."""
        self._video = video
        # The first picture may well be a key frame on its way: do not ask for another just yet.
        self._last_request = now + KEY_FRAME_SPACING - KEY_FRAME_EVERY

    def arrived(self, packet: RtpPacket, now: float) -> None:
        """Note when a packet of any stream came, where transport-wide feedback was agreed."""
        if self._arrivals is None:
            return
        number = packet.extension(self._transport_cc_id)
        if number is not None and len(number) == 2:
            self._arrivals.arrived(int.from_bytes(number, "big"), self._transport.arrived_at(now))
        # With the packets it tells of, and not by a timer: a process that sleeps is expensive to wake.
        if now >= self._arrivals_due:
            self.send_arrivals(now)

    def send_arrivals(self, now: float) -> None:
        """Send the arrival times of all packets since the last call."""
        if self._arrivals is not None and self._video is not None:
            self._arrivals_due = now + ARRIVALS_EVERY
            for packet in self._arrivals.packets(self._ssrc, self._video.ssrc):
                self._transport.send_rtcp(packet)

    def ask_for_missing(self, give_up: Callable[[float], None]) -> None:
        """Send NACKs for missing video packets until there are none.

        `give_up(now)` is called before each: it gives up what has been missing for too long.
        """
        if self._nack_timer is None and self._video is not None:
            self._set_nack_timer(self._video.nack_after, give_up)

    def _set_nack_timer(self, wait: float, give_up: Callable[[float], None]) -> None:
        self._nack_timer = asyncio.get_running_loop().call_later(wait, self._send_nack, give_up)

    def _send_nack(self, give_up: Callable[[float], None]) -> None:
        self._nack_timer = None
        now = time.monotonic()
        give_up(now)
        video = self._video
        if video is None or not len(video.buffer):
            return
        wait = video.nack_every
        if self.can_nack:
            numbers, wait = video.ask(now)
            if numbers:
                self._transport.send_rtcp(rtcp.nack(self._ssrc, video.ssrc, numbers))
        self._set_nack_timer(wait, give_up)

    def request_key_frame(self, now: float, spacing: float) -> None:
        """Send a PLI, or a FIR to who offers that alone, unless one was sent within the last `spacing` s."""
        if self._video is None or now - self._last_request < spacing:
            return
        self._last_request = now
        self._requests += 1
        self._requests_since_key += 1
        if self._requests_since_key >= UNANSWERED:
            self.ignores_requests = True
        ssrc = self._video.ssrc
        fir, pli = rtcp.fir(self._ssrc, ssrc, self._requests), rtcp.pli(self._ssrc, ssrc)
        # some encoders offer both and heed the full intra request alone
        by_fir = self._takes_fir and (not self._takes_pli or self.ignores_requests)
        self._transport.send_rtcp(fir if by_fir else pli)

    def key_frame_came(self) -> None:
        """A key frame came, whether asked for or not."""
        self.ignores_requests = self._requests_since_key >= UNANSWERED
        self._requests_since_key = 0

    def limit_bitrate(self, bits_per_second: int | None) -> None:
        """Have REMB name this rate at most; None lifts that."""
        self._rate_limit = bits_per_second

    def connected(self, now: float) -> None:
        """Count the time to the first report from now on."""
        self._last_report = now

    def report(self, now: float, audio: Reception | None, received: int) -> None:
        """Send receiver reports and REMB where they are due; `received` is the bits of media per second."""
        if now - self._last_report < REPORT_EVERY:
            return
        self._last_report = now
        streams = [stream for stream in (self._video, audio) if stream is not None]
        blocks = [block for stream in streams if (block := stream.report(now)) is not None]
        if not blocks:
            return
        compound = rtcp.receiver_report(self._ssrc, blocks)
        if self._video is not None and self._takes_remb:
            rates = [self._rate_limit] if self._rate_limit is not None else []
            if self._estimate is not None:
                rates.append(self._estimate.update(self._video.fraction_lost, received))
            if rates:
                compound += rtcp.remb(self._ssrc, [self._video.ssrc], min(rates))
        self._transport.send_rtcp(compound)

    def close(self) -> None:
        if self._nack_timer is not None:
            self._nack_timer.cancel()
            self._nack_timer = None
