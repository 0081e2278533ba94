"""Where sound lies on its pictures' time line, over hours and whatever the publisher's clocks do."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.comfystream.clock import ServerClock
from gateway.media.clock import Unwrapper, VideoClock
from gateway.webrtc.audio_clock import TOLERANCE, AudioClock
from gateway.webrtc.reception import SenderClock
from tests.webrtc.fed import Fed
from tests.webrtc.loopback import coded_pictures, nals_of

NTP_SECOND = 1 << 32
LENGTH = 1_800
"""Ticks of 90 kHz in a packet of 20 ms."""
FAST = 1.0003
"""A sound card that runs 300 millionths fast: a second in an hour."""


class Source:
    """A camera and a microphone whose 32-bit ticks wrap on the way. Times are seconds."""

    def __init__(
        self,
        *,
        drift: float = 1.0,
        reports: bool = True,
        jitter: float = 0.0,
        late: float = 0.0,
        pictures: VideoClock | None = None,
    ) -> None:
        self.clock = AudioClock()
        self.skews: list[float] = []
        """Seconds that sound lay off the picture taken at the same moment."""
        self.times: list[int] = []
        self._drift = drift
        self._reports = reports
        self._jitter = jitter
        """Seconds by which the times in sender reports are off, either way."""
        self._late = late
        """Seconds that sound takes longer to arrive than pictures."""
        self._chance = random.Random(7)
        self._pictures = pictures or VideoClock()
        self._sound = Unwrapper(32)

    def run(
        self,
        begin: float,
        end: float,
        *,
        camera: float = 0.0,
        microphone: float = 0.0,
        pictures: bool = True,
        report_off: float = 0.0,
        late: float = 0.0,
    ) -> None:
        """Film from `begin` to `end`; the clocks of camera and microphone are off by so much.

        `late` is what sound takes longer than else, as `report_off` says where a sender reports when it sent.
        """
        for frame in range(round((end - begin) * 25)):
            now = begin + frame / 25
            stamp = 2**32 - 9_000 + round((now + camera) * 90_000) & 0xFFFFFFFF
            if pictures:
                shown = self._pictures.ticks(stamp, now)
                self.clock.video_came(shown, now)
            for part in range(2):
                taken = now + part / 50
                pts = self.clock.pts(
                    self._sound.unwrap(self._ticks(taken, microphone)), LENGTH, taken + self._late + late
                )
                if pts is None:
                    continue
                self.times.append(pts)
                if pictures:
                    self.skews.append((pts - shown) / 90_000 - part / 50)
            if self._reports and frame % 50 == 0:
                off = [self._chance.uniform(-self._jitter, self._jitter) for _ in range(2)]
                ticks = self._sound.near(self._ticks(now, microphone))
                if pictures:
                    video = SenderClock(_ntp(now + off[0]), self._pictures.at(stamp))
                    self.clock.align(video, SenderClock(_ntp(now + off[1] + report_off), ticks))

    def wrong_steps(self) -> int:
        """Packets that do not begin where the one before them ended."""
        return sum(abs(after - before - LENGTH) > TOLERANCE for before, after in pairwise(self.times))

    def _ticks(self, taken: float, off: float) -> int:
        return 2**32 - 9_000 + round((taken + off) * 48_000 * self._drift) & 0xFFFFFFFF


def _ntp(seconds: float) -> int:
    return int((1_000 + seconds) * NTP_SECOND)


@pytest.mark.parametrize(("reports", "most"), [(True, 0.03), (False, 0.15)])
def test_clocks_that_drift_apart_are_held_together(reports: bool, most: float) -> None:
    source = Source(drift=FAST, reports=reports)
    source.run(0, 1800)
    assert max(map(abs, source.skews)) < most
    assert source.wrong_steps() == 0


@pytest.mark.parametrize("comfystream", [False, True])
def test_ten_minutes_with_reports_that_jitter_have_no_wrong_step(comfystream: bool) -> None:
    source = Source(jitter=0.05, pictures=ServerClock() if comfystream else None)
    source.run(0, 600)
    assert source.wrong_steps() == 0
    assert max(map(abs, source.skews)) < 0.04


@pytest.mark.parametrize("pause", [5, 20, 60])
@pytest.mark.parametrize("comfystream", [False, True])
def test_sound_is_beside_the_pictures_again_after_a_pause_of_theirs(pause: int, comfystream: bool) -> None:
    # ComfyStream counts on after a pause where it was before
    source = Source(jitter=0.05, pictures=ServerClock() if comfystream else None)
    source.run(0, 30)
    source.run(30, 30 + pause, pictures=False)
    source.skews.clear()
    source.run(30 + pause, 90 + pause, camera=-pause if comfystream else 0)
    assert source.wrong_steps() == 0
    assert max(map(abs, source.skews)) < 0.04
    assert source.clock.dropped == 0


@pytest.mark.parametrize("told", [False, True])
def test_sound_that_its_sender_holds_back_for_a_second_stays_where_it_was(told: bool) -> None:
    source = Source(jitter=0.02)
    for begin in range(0, 60, 5):
        source.run(begin, begin + 4)
        source.run(begin + 4, begin + 5, late=0.9, report_off=0.9 if told else 0.0)
    assert source.wrong_steps() == 0
    assert source.clock.dropped == 0
    assert max(map(abs, source.skews)) < 0.04


@given(late=st.floats(min_value=0.0, max_value=3.0), back=st.booleans())
def test_sound_that_arrives_late_is_moved_to_where_reports_say_without_overlap(
    late: float, back: bool
) -> None:
    source = Source(late=late)
    source.run(0, 10, report_off=late / 2 if back else -late / 2)
    assert all(after - before >= LENGTH - TOLERANCE for before, after in pairwise(source.times))
    assert source.wrong_steps() <= 1
    source.skews.clear()
    source.run(10, 60, report_off=0)
    source.run(60, 61)
    assert abs(source.skews[-1]) < 0.04


def test_packets_whose_place_is_taken_are_left_out_and_counted() -> None:
    source = Source(late=0.5)
    source.run(0, 20)
    assert source.clock.dropped == pytest.approx(0.5 * 50, abs=2)
    assert len(source.times) + source.clock.dropped == 20 * 50


def test_a_small_correction_is_made_at_one_percent_of_the_rate() -> None:
    source = Source(late=0.15)
    source.run(0, 30)
    assert {abs(after - before - LENGTH) for before, after in pairwise(source.times)} <= set(
        range(LENGTH // 100 + 2)
    )
    assert source.clock.dropped == 0
    assert abs(source.skews[-1]) < 0.04


def test_a_single_report_moves_nothing() -> None:
    source = Source(reports=False)
    source.run(0, 2)
    source.clock.align(SenderClock(_ntp(2), 0), SenderClock(_ntp(2) + NTP_SECOND, 5))
    source.run(2, 4)
    assert max(map(abs, source.skews)) < 0.01
    assert source.wrong_steps() == 0


def test_reports_that_contradict_the_arrival_are_not_believed() -> None:
    source = Source()
    source.run(0, 30, report_off=100)
    assert max(map(abs, source.skews)) < 0.03


@pytest.mark.parametrize("camera", [11_930.0, -3_600.0, 23_860.0])
def test_sound_follows_pictures_whose_clock_starts_over(camera: float) -> None:
    source = Source(reports=False)
    source.run(0, 20)
    source.run(20, 22, camera=camera)
    assert max(map(abs, source.skews)) < 0.03


@pytest.mark.parametrize("microphone", [1_000.0, -15.0, -1_000.0])
@pytest.mark.parametrize("reports", [True, False])
def test_sound_whose_own_clock_starts_over_goes_on_beside_the_pictures(
    microphone: float, reports: bool
) -> None:
    source = Source(reports=reports)
    source.run(0, 20)
    source.run(20, 22, microphone=microphone)
    assert max(map(abs, source.skews)) < 0.04
    assert len(source.times) > 50 * 21


CAMERA = Path(__file__).parents[1] / "data" / "offers" / "chromium-camera-sendonly.sdp"
KEY, LATER = (nals_of(picture) for picture in coded_pictures(2, size=(64, 64)))
OPUS = b"\x78" + bytes(20)
"""One packet of 20 ms."""
VIDEO, SOUND = 1, 9
"""SSRCs."""
UNSET = 0xFFFFFFFF
"""The RTP time of a first report that some senders make before they know it."""


class Sender:
    """Sends 25 pictures and 50 packets of sound a second to a publisher, and reports, as on the wire."""

    def __init__(
        self, chance: random.Random, *, clock: VideoClock, rate: int = 90_000, first_report: int | None = None
    ) -> None:
        self.fed = Fed(CAMERA.read_text(), clock=clock)
        self.camera = 0.0
        """Seconds by which the camera's clock is off."""
        self.wrong_steps = 0
        """Packets that do not lie as far from the one before as they were taken."""
        self.furthest = 0.0
        """Seconds that sound lay off its picture at most."""
        self._chance = chance
        self._rate = rate
        self._first_report = {} if first_report is None else {VIDEO: first_report, SOUND: first_report}
        self._base = -9_000 if first_report is None else 1 << 31
        """The first timestamp: it wraps soon, or such a report is far from it."""
        self._frame = 0
        self._picture = 0, 0.0
        self._before: tuple[int, float] | None = None

    def send(self, seconds: float, *, pictures: bool = True, sound: bool = True) -> None:
        """Send for so long; packets take up to 20 ms, and reports are off by 50 ms either way."""
        for _ in range(round(seconds * 25)):
            taken = self._frame / 25
            if pictures:
                self._arrive(taken)
                stamp = self._base + round((taken + self.camera) * self._rate)
                self.fed.picture(KEY if self._frame % 50 == 0 else LATER, stamp & 0xFFFFFFFF, ssrc=VIDEO)
                self._picture = self.fed.units[-1].pts, taken
            if sound:
                for at in (taken, taken + 0.02):
                    self._say(at, beside_pictures=pictures)
                if self._frame % 125 == 7:
                    self._report(SOUND, self._ticks(taken), taken)
            if pictures and self._frame % 25 == 12:
                self._arrive(taken + 0.03)  # the first before the picture that tells the rate
                self._report(VIDEO, stamp, taken)
            self.fed.frames.clear()
            self.fed.sent.rtcp.clear()
            self._frame += 1

    def _say(self, taken: float, *, beside_pictures: bool) -> None:
        self._arrive(taken)
        self.fed.sound(OPUS, self._ticks(taken), ssrc=SOUND)
        (packet,) = self.fed.sounds
        self.fed.frames.clear()
        if self._before is not None:
            pts, then = self._before
            self.wrong_steps += abs(packet.pts - pts - (taken - then) * 90_000) > TOLERANCE
        self._before = packet.pts, taken
        if beside_pictures:
            shown, then = self._picture
            self.furthest = max(self.furthest, abs((packet.pts - shown) / 90_000 - (taken - then)))

    def _ticks(self, taken: float) -> int:
        return self._base + round(taken * 48_000)

    def _arrive(self, taken: float) -> None:
        self.fed.now = max(self.fed.now, 100 + taken + self._chance.uniform(0, 0.02))

    def _report(self, ssrc: int, stamp: int, taken: float) -> None:
        stamp = self._first_report.pop(ssrc, stamp)
        self.fed.report(stamp, _ntp(taken + self._chance.uniform(-0.05, 0.05)), ssrc=ssrc)


@pytest.mark.parametrize(
    ("rate", "first_report"), [(90_000, None), (90_000, UNSET), (VideoClock.WRONG_RATE, UNSET)]
)
@pytest.mark.asyncio
async def test_a_publishers_ten_minutes_with_pauses_have_no_wrong_step(
    rate: int, first_report: int | None
) -> None:
    clock = VideoClock()
    sender = Sender(random.Random(22), clock=clock, rate=rate, first_report=first_report)
    sender.send(75)
    for pause in (5, 20, 60):
        for pictures, sound in ((False, True), (True, False), (False, False)):
            sender.send(pause, pictures=pictures, sound=sound)
            sender.send(30)
    assert sender.wrong_steps == 0
    assert sender.furthest < 0.04
    assert clock.corrected is (rate != 90_000)
    audio = sender.fed.publisher.stats().audio
    assert audio is not None
    assert (audio.packets_lost, audio.packets_dropped) == (0, 0)
    await sender.fed.publisher.close()


@pytest.mark.asyncio
async def test_ten_minutes_of_a_comfystream_server_with_pauses_have_no_wrong_step() -> None:
    sender = Sender(random.Random(22), clock=ServerClock())
    sender.send(120)
    for pause in (5, 20, 60):
        sender.send(pause, pictures=False)
        sender.camera -= pause  # it counts on where it was
        sender.send(135)
    assert sender.wrong_steps == 0
    assert sender.furthest < 0.04
    await sender.fed.publisher.close()
