"""What a publisher's media looks like, and where its sound lies on its pictures' time line."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from gateway.media.frames import TICKS_PER_SECOND, AccessUnit
from gateway.media.sps import Sps
from gateway.webrtc.reception import SenderClock

WINDOW = 2.0
"""Seconds over which rates are measured."""
SYNC_TOLERANCE = TICKS_PER_SECOND // 50
"""Ticks by which sound may be off its place before it is moved: 20 ms, one Opus packet."""

SYNC_BELIEVED = 10 * TICKS_PER_SECOND
"""Ticks by which sender reports may contradict the arrival: some encoders fill them with anything."""

DRIFT_PACKETS = 512
"""Packets of sound over which its arrival is averaged, where no sender report tells: about 10 s."""
DRIFT_TOLERANCE = TICKS_PER_SECOND // 10
"""Ticks by which that average may be off before the sound is moved."""


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

    def stats(self, now: float, *, sps: Sps | None, lost: int, damaged: int, b_frames: bool) -> IngestStats:
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
            damaged_frames=damaged,
            b_frames=b_frames,
        )

    def _change(self) -> tuple[float, int, int]:
        if len(self._samples) < 2:
            return 0.0, 0, 0
        (since, size, frames), (until, size_now, frames_now) = self._samples[0], self._samples[-1]
        return until - since, size_now - size, frames_now - frames


class AudioClock:
    """Puts Opus packets (48 kHz ticks) on the video's time line (90 kHz ticks).

    By arrival at first: a packet belongs to the picture that comes with it. Sender reports of both
    streams then tell exactly (RFC 3550, 6.4.1); without them the arrival tells of clocks that drift apart.
    Its times rise for as long as the pictures' do.
    """

    def __init__(self) -> None:
        self._video: tuple[int, float] | None = None
        self._offset: int | None = None
        self._last: int | None = None
        self._reported = False
        self._drift = 0.0

    def video_came(self, pts: int, now: float) -> None:
        if self._video is not None:
            before, came = self._video
            if abs(pts - before - (now - came) * TICKS_PER_SECOND) > SYNC_BELIEVED:
                # the pictures' clock started over: the sound is given a new place beside them
                self.forget_audio()
                self._last = None
        self._video = (pts, now)

    def forget_audio(self) -> None:
        """Another audio stream begins: its ticks have nothing to do with the former one's."""
        self._offset = None
        self._reported = False
        self._drift = 0.0

    def pts(self, ticks: int, now: float) -> int | None:
        """The time of a packet with the unwrapped timestamp `ticks`; None before the first picture."""
        if self._video is None:
            return None
        own = ticks * 15 // 8
        picture, came = self._video
        arrival = picture + int((now - came) * TICKS_PER_SECOND) - own
        if self._offset is None:
            self._offset = arrival
        elif not self._reported:
            self._drift += (arrival - self._offset - self._drift) / DRIFT_PACKETS
            if abs(self._drift) > DRIFT_TOLERANCE:
                self._offset += int(self._drift)
                self._drift = 0.0
        pts = own + self._offset
        if self._last is not None and pts <= self._last:
            pts = self._last + 1
        self._last = pts
        return pts

    def align(self, video: SenderClock | None, audio: SenderClock | None) -> None:
        """Take both streams' newest sender reports, their ticks unwrapped in their own rates."""
        if video is None or audio is None:
            return
        later = (audio.ntp - video.ntp) * TICKS_PER_SECOND >> 32
        offset = video.ticks + later - audio.ticks * 15 // 8
        off = 0 if self._offset is None else abs(offset - self._offset)
        if off >= SYNC_BELIEVED:
            return
        self._reported = True
        if self._offset is None or off > SYNC_TOLERANCE:
            self._offset = offset
