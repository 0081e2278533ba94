"""Where a publisher's sound lies on its pictures' time line."""

from __future__ import annotations

from collections import deque
from statistics import fmean, median

from gateway.media.frames import TICKS_PER_SECOND
from gateway.webrtc.reception import SenderClock

BELIEVED = 10 * TICKS_PER_SECOND
"""Ticks by which sender reports may contradict the arrival: some encoders fill them with anything."""
AGREEMENT = TICKS_PER_SECOND * 15 // 100
"""Ticks by which reports that agree may differ: jitter of 50 ms either way, and a margin."""
ENOUGH_REPORTS = 3
"""Reports that must agree before they are believed."""
FEW_REPORTS_OFF = AGREEMENT // 2
"""Ticks by which the first of them may be off together: within that the arrival counts as much as they do."""
MAX_OTHERS = 5
"""Reports among which that many are looked for: a sender that is late for a moment may report it."""
MAX_REPORTS = 16
"""Reports that are averaged."""

DRIFT_PACKETS = 512
"""Packets of sound over which its arrival is averaged, where no sender report tells: about 10 s."""
DRIFT_TOLERANCE = TICKS_PER_SECOND // 10
"""Ticks by which that average may be off before the sound is moved."""

JUMP = TICKS_PER_SECOND // 5
"""Ticks beyond which sound is moved at once, by a gap or by packets left out; below them slowly."""
MAX_SLEW = 100
"""Sound is moved slowly by at most one part in so many of its own length: 1 %."""
TOLERANCE = TICKS_PER_SECOND // 1_000
"""Ticks by which a packet's time may differ from the end of the packet before: 1 ms."""


class AudioClock:
    """Puts Opus packets (48 kHz ticks) on the video's time line (90 kHz ticks).

    By arrival at first: a packet belongs to the picture that comes with it. Sender reports of both
    streams that agree with each other then tell exactly (RFC 3550, 6.4.1); without them the arrival tells
    of clocks that drift apart. An encoder behind us takes no packet that overlaps the one before: from one
    packet to the next its times rise by the packet's length, by more where there is a gap, never by less.
    """

    def __init__(self) -> None:
        self.dropped = 0
        """Packets left out since their place was taken."""
        self._video: tuple[int, float] | None = None
        self._offset: int | None = None
        """Ticks from a packet's own time to its time beside the pictures."""
        self._target = 0
        """What the offset is moved to."""
        self._own = 0
        """The last packet's own time, in ticks of 90 kHz."""
        self._end: int | None = None
        """Where the last packet handed out ends."""
        self._drift = 0.0
        self._reports: deque[int] = deque(maxlen=MAX_REPORTS)
        self._others: list[int] = []
        """Reports that contradict those and may agree with each other."""
        self._newest: tuple[SenderClock, SenderClock] | None = None

    def video_came(self, pts: int, now: float) -> None:
        """A picture with time `pts` came at `now` (seconds)."""
        if self._video is not None:
            before, came = self._video
            if abs(pts - before - (now - came) * TICKS_PER_SECOND) > BELIEVED:
                # the pictures' clock started over: the sound is given a new place beside them
                self.forget_audio()
                self._end = None
        self._video = (pts, now)

    def forget_audio(self) -> None:
        """Another audio stream begins: its ticks have nothing to do with the former one's."""
        self._offset = None
        self._drift = 0.0
        self._reports.clear()
        self._others.clear()
        self._newest = None

    def pts(self, ticks: int, length: int, now: float) -> int | None:
        """The time of a packet with the unwrapped timestamp `ticks` that sounds for `length` ticks of 90 kHz.

        None before the first picture, and where the packet is to be dropped.
        """
        if self._video is None:
            return None
        own = ticks * 15 // 8
        picture, came = self._video
        arrival = picture + int((now - came) * TICKS_PER_SECOND) - own
        if self._offset is not None and abs(arrival - self._offset) > BELIEVED:
            self.forget_audio()  # the sound's clock started over
        if self._offset is None:
            self._offset = self._target = arrival
        elif not self._reports:
            self._follow_arrival(arrival)
        self._offset = _moved(self._offset, self._target, own - self._own)
        self._own = own
        pts = own + self._offset
        if self._end is not None and pts < self._end - TOLERANCE:
            self.dropped += 1
            return None
        self._end = pts + length
        return pts

    def align(self, video: SenderClock | None, audio: SenderClock | None) -> None:
        """Take both streams' newest sender reports, their ticks unwrapped in their own rates."""
        if video is None or audio is None:
            return
        if self._newest is not None and (video == self._newest[0] or audio == self._newest[1]):
            return
        self._newest = (video, audio)
        later = (audio.ntp - video.ntp) * TICKS_PER_SECOND >> 32
        offset = video.ticks + later - audio.ticks * 15 // 8
        if self._offset is not None and abs(offset - self._offset) < BELIEVED:
            self._take_report(offset)

    def _take_report(self, offset: int) -> None:
        if self._reports and abs(offset - median(self._reports)) <= AGREEMENT:
            self._reports.append(offset)
            self._others.clear()
        else:
            self._others = [*self._others, offset][-MAX_OTHERS:]
            agreed = [other for other in self._others if abs(other - offset) <= AGREEMENT]
            if len(agreed) < ENOUGH_REPORTS:
                return
            self._reports.clear()
            if self._offset is not None and abs(fmean(agreed) - self._offset) <= FEW_REPORTS_OFF:
                self._reports.extend([self._offset] * len(agreed))
            self._reports.extend(agreed)
            self._others.clear()
        self._target = round(fmean(self._reports))

    def _follow_arrival(self, arrival: int) -> None:
        self._drift += (arrival - self._target - self._drift) / DRIFT_PACKETS
        if abs(self._drift) > DRIFT_TOLERANCE:
            self._target += int(self._drift)
            self._drift = 0.0


def _moved(offset: int, target: int, passed: int) -> int:
    """The offset on its way to the target, `passed` ticks after it was last looked at."""
    off = target - offset
    if abs(off) > JUMP:
        return target
    most = min(abs(passed) // MAX_SLEW, TOLERANCE)
    return offset + max(-most, min(off, most))
