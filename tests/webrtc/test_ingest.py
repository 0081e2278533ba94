"""Where sound lies on its pictures' time line, over hours and whatever the publisher's clocks do."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gateway.media.clock import Unwrapper
from gateway.webrtc.ingest import AudioClock
from gateway.webrtc.reception import SenderClock

NTP_SECOND = 1 << 32
FAST = 1.0003
"""A sound card that runs 300 millionths fast: a second in an hour."""


class Source:
    """A camera and a microphone from `begin` (seconds) on; both streams' 32-bit ticks wrap on the way."""

    def __init__(self, *, drift: float = 1.0, reports: bool = True) -> None:
        self.clock = AudioClock()
        self.skews: list[float] = []
        """Seconds that sound lay off the picture taken at the same moment."""
        self.times: list[int] = []
        self._drift = drift
        self._reports = reports
        self._video, self._audio = Unwrapper(32), Unwrapper(32)

    def run(self, begin: float, end: float, *, video_starts: int = 2**32 - 9_000) -> None:
        now = begin
        while now < end:
            shown = self._video.unwrap(video_starts + round(now * 90_000) & 0xFFFFFFFF)
            self.clock.video_came(shown, now)
            for part in range(2):
                taken = now + part / 50
                ticks = self._audio.unwrap(2**32 - 9_000 + round(taken * 48_000 * self._drift) & 0xFFFFFFFF)
                pts = self.clock.pts(ticks, taken + 0.005)
                assert pts is not None
                self.times.append(pts)
                self.skews.append((pts - shown) / 90_000 - part / 50)
            if self._reports and round(now * 25) % 125 == 0:
                ntp = int(now * NTP_SECOND)
                self.clock.align(SenderClock(ntp, shown), SenderClock(ntp, ticks - round(self._drift * 960)))
            now += 1 / 25


@pytest.mark.parametrize(("reports", "most"), [(True, 0.03), (False, 0.15)])
def test_clocks_that_drift_apart_are_held_together(reports: bool, most: float) -> None:
    source = Source(drift=FAST, reports=reports)
    source.run(0, 1800)
    assert max(map(abs, source.skews)) < most
    assert all(a < b for a, b in pairwise(source.times))


def test_reports_that_contradict_the_arrival_are_not_believed() -> None:
    source = Source()
    source.run(0, 2)
    source.clock.align(SenderClock(0, 0), SenderClock(100 * NTP_SECOND, 5))
    source.run(2, 4)
    assert max(map(abs, source.skews)) < 0.03


@pytest.mark.parametrize("video_starts", [2**30, 2**31, 2**32 - 9_000 - 3600 * 90_000])
def test_sound_follows_pictures_whose_clock_starts_over(video_starts: int) -> None:
    source = Source(reports=False)
    source.run(0, 20)
    source.run(20, 22, video_starts=video_starts)
    assert max(map(abs, source.skews)) < 0.03
