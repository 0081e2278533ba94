"""What a publisher's media looks like."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from gateway.media.frames import TICKS_PER_SECOND, AccessUnit
from gateway.media.rtp_h264 import Depacketizer
from gateway.webrtc.tracks import Rejected

WINDOW = 2.0
"""Seconds over which rates are measured."""


@dataclass(frozen=True)
class AudioStats:
    """How a publisher's sound is doing now."""

    packets: int
    packets_lost: int
    packets_dropped: int
    """Packets left out, as their place on the pictures' time line was taken."""
    live: bool
    """Whether some came within the last seconds."""


@dataclass(frozen=True)
class IngestStats:
    """How an ingest is doing now. Times are seconds, `last_media_at` on the monotonic clock."""

    codec: str
    width: int | None
    """None until an SPS has come, as with height."""
    height: int | None
    fps: float
    bitrate_bps: int
    gop_s: float | None
    """Between the last two key frames."""
    packets_lost: int
    """Video packets that never came, retransmissions tried."""
    key_frame_age_s: float | None
    last_media_at: float | None
    frames: int
    damaged_frames: int
    b_frames: bool
    without_key_frame: bool
    """Whether pictures go on after a loss that no key frame has followed."""
    ignores_requests: bool
    """Whether the encoder makes no key frame when it is asked for one."""
    audio: AudioStats | None
    """None where no sound was agreed."""
    layer: str | None
    """The simulcast layer that is shown; None without simulcast."""
    rejected: tuple[Rejected, ...]
    """What the offer asked for and did not get."""

    @property
    def longest_gop_s(self) -> float:
        """Seconds between the last two key frames, or since the last one where that is longer."""
        return max(self.gop_s or 0.0, self.key_frame_age_s or 0.0)


class IngestMeter:
    """Counts packets and frames."""

    def __init__(self) -> None:
        self.last_media_at: float | None = None
        self._bytes = 0
        self._frames = 0
        self._samples: deque[tuple[float, int, int]] = deque(maxlen=64)
        self._key_at: float | None = None
        self._key_pts: int | None = None
        self._gop: float | None = None

    def media(self, now: float, size: int) -> None:
        """A packet of media came."""
        self.last_media_at = now
        self._bytes += size

    def frame(self, unit: AccessUnit, now: float) -> None:
        """A whole picture came."""
        self._frames += 1
        if unit.key:
            if self._key_pts is not None:
                self._gop = (unit.pts - self._key_pts) / TICKS_PER_SECOND
            self._key_at, self._key_pts = now, unit.pts

    def sample(self, now: float) -> None:
        """Note where the counters stand; rates are taken between the oldest note of the window and now."""
        self._samples.append((now, self._bytes, self._frames))
        while now - self._samples[0][0] > WINDOW:
            self._samples.popleft()

    @property
    def bits_per_second(self) -> int:
        span, size, _ = self._change()
        return int(size * 8 / span) if span else 0

    def stats(
        self,
        now: float,
        *,
        pictures: Depacketizer,
        lost: int,
        ignores_requests: bool,
        audio: AudioStats | None,
        layer: str | None,
        rejected: tuple[Rejected, ...],
    ) -> IngestStats:
        sps = pictures.parameter_sets.sps
        span, _, frames = self._change()
        return IngestStats(
            codec="H264",
            width=sps.width if sps else None,
            height=sps.height if sps else None,
            fps=round(frames / span, 1) if span else 0.0,
            bitrate_bps=self.bits_per_second,
            gop_s=round(self._gop, 2) if self._gop is not None else None,
            packets_lost=lost,
            key_frame_age_s=round(now - self._key_at, 1) if self._key_at is not None else None,
            last_media_at=self.last_media_at,
            frames=self._frames,
            damaged_frames=pictures.damaged,
            b_frames=pictures.b_frames,
            without_key_frame=pictures.without_key_frame,
            ignores_requests=ignores_requests,
            audio=audio,
            layer=layer,
            rejected=rejected,
        )

    def _change(self) -> tuple[float, int, int]:
        if len(self._samples) < 2:
            return 0.0, 0, 0
        (since, size, frames), (until, size_now, frames_now) = self._samples[0], self._samples[-1]
        return until - since, size_now - size, frames_now - frames
