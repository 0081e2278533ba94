"""When a missing packet is asked for, how often, and when it is given up: on a clock of the test's own."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable

import pytest

from gateway.media.rtp import RtpPacket
from gateway.webrtc.publisher import VIDEO_WAIT
from gateway.webrtc.reception import NACK_AFTER, NACK_EVERY, NACK_LATEST, NACK_TOGETHER, Reception

FPS, PACKETS = 30, 8
"""Of the stream: pictures a second, packets of each."""


class Path:
    """A sender, the way to the gateway and back, and the gateway's chase after what is missing.

    `late` gives the seconds that a packet takes, None for one that is lost; `answer` those from a request to
    its answer, likewise.
    """

    def __init__(
        self,
        late: Callable[[int], float | None] = lambda number: 0.0,
        answer: Callable[[int], float | None] = lambda number: None,
    ) -> None:
        self.reception = Reception(1, 90_000, max_wait=VIDEO_WAIT)
        self.now = 0.0
        self.sent = 65_000
        """The next number: the wrap is near."""
        self.asked: list[tuple[float, int]] = []
        self.came_at: dict[int, float] = {}
        self.out: list[int] = []
        self.most_held = 0
        self.most_asked = 0
        self._late, self._answer = late, answer
        self._arrivals: list[tuple[float, int, int, bool, bool]] = []
        self._chase_at: float | None = None

    def play(self, seconds: float) -> None:
        """Send for so long, and let everything arrive."""
        for picture in range(int(seconds * FPS)):
            begin = self.now + picture / FPS
            for place in range(PACKETS):
                number = self.sent
                self.sent += 1
                if (late := self._late(number)) is not None:
                    last = place == PACKETS - 1
                    heapq.heappush(self._arrivals, (begin + late, number, picture, last, False))
        until = self.now + seconds + 2 * VIDEO_WAIT
        while True:
            arrival = self._arrivals[0][0] if self._arrivals else until
            self.now = min(arrival, self._chase_at if self._chase_at is not None else until)
            if self._chase_at is not None and self._chase_at <= self.now:
                self._chase()
            elif self._arrivals:
                self._arrive(*heapq.heappop(self._arrivals)[1:])
            else:
                return

    def _arrive(self, number: int, picture: int, last: bool, repeated: bool) -> None:
        packet = RtpPacket(96, last, number & 0xFFFF, picture * 3000, 1, b"x")
        self.came_at.setdefault(number, self.now)
        reception = self.reception
        self._take(reception.push(packet, self.now, repeated=repeated))
        if len(reception.buffer) and self._chase_at is None:
            self._chase_at = self.now + reception.nack_after

    def _chase(self) -> None:
        self._chase_at = None
        reception = self.reception
        self._take(reception.buffer.expire(self.now))
        if len(reception.buffer):
            numbers, wait = reception.ask(self.now)
            assert wait >= NACK_TOGETHER
            for number in numbers:
                self.asked.append((self.now, number))
                if (late := self._answer(number)) is not None:
                    heapq.heappush(self._arrivals, (self.now + late, number, 0, False, True))
            self._chase_at = self.now + wait

    def _take(self, ready: list[RtpPacket]) -> None:
        self.out += [packet.sequence for packet in ready]
        self.most_held = max(self.most_held, len(self.reception.buffer))
        self.most_asked = max(self.most_asked, len(self.reception.asked))

    def times(self, number: int) -> list[float]:
        """When the gateway asked for it."""
        return [at for at, asked in self.asked if asked == number]


def test_a_packet_is_asked_for_once_it_is_too_late_for_reordering_and_not_before() -> None:
    lost = 65_010
    path = Path(late=lambda number: None if number == lost else 0.0)
    path.play(1)
    seen = path.came_at[lost + 1]
    assert NACK_AFTER - NACK_TOGETHER < path.times(lost)[0] - seen <= NACK_AFTER + NACK_TOGETHER
    assert {number for _, number in path.asked} == {lost}


def test_packets_that_only_overtake_each_other_are_not_asked_for() -> None:
    path = Path(late=lambda number: 0.008 if number % 7 == 3 else 0.0)
    path.play(10)
    assert path.asked == []
    assert path.out == list(range(65_000, path.sent))


def test_each_gap_waits_its_own_time_however_many_are_open() -> None:
    gaps = [65_010, 65_011, 65_017, 65_018, 65_025]
    path = Path(late=lambda number: None if number in gaps else number % PACKETS * 0.004)
    path.play(1)
    for gap in gaps:
        behind = path.came_at[next(number for number in range(gap, gap + 9) if number not in gaps)]
        first = path.times(gap)[0] - behind
        assert NACK_AFTER - NACK_TOGETHER < first <= path.reception.nack_after + NACK_AFTER


def test_on_a_jittery_path_more_time_is_given_and_not_without_end() -> None:
    calm, jittery, wild = (Path(late=lateness(spread)) for spread in (0.0, 0.05, 0.5))
    for path in (calm, jittery, wild):
        path.play(20)
    assert calm.reception.nack_after == NACK_AFTER
    assert NACK_AFTER < jittery.reception.nack_after < NACK_LATEST
    assert wild.reception.nack_after == NACK_LATEST
    # asked for although on its way: a small part of those that came out of order
    assert len(jittery.asked) < 0.02 * (jittery.sent - 65_000)


def lateness(spread: float) -> Callable[[int], float]:
    chance = random.Random(3)
    return lambda number: chance.random() * spread


@pytest.mark.parametrize(
    ("round_trip", "wait"),
    [(None, NACK_EVERY), (0.02, NACK_EVERY), (0.1, 0.1), (0.14, 0.14), (0.3, NACK_LATEST)],
)
def test_it_is_asked_for_again_after_a_round_trip(round_trip: float | None, wait: float) -> None:
    path = Path(
        late=lambda number: None if number % 40 == 5 else 0.0,
        answer=lambda number: round_trip if number % 80 == 5 or number < 69_000 else None,
    )
    path.play(30)
    unanswered = [number for number in range(70_000, path.sent) if number % 80 == 45]
    again = [path.times(number)[1] - path.times(number)[0] for number in unanswered if path.times(number)]
    assert again
    assert again == [pytest.approx(wait, abs=0.1 * wait)] * len(again)


def test_what_nobody_repeats_is_asked_for_a_few_times_and_given_up_in_time() -> None:
    lost = set(range(65_020, 65_030))
    path = Path(late=lambda number: None if number in lost else 0.0)
    path.play(2)
    for number in lost:
        times = path.times(number)
        assert 2 <= len(times) <= VIDEO_WAIT / NACK_EVERY
        assert times[-1] - path.came_at[65_030] < VIDEO_WAIT
    assert path.out == [number for number in range(65_000, path.sent) if number not in lost]
    assert path.reception.buffer.lost == len(lost)


def test_a_long_bad_path_makes_nothing_grow_and_costs_few_requests() -> None:
    chance = random.Random(5)
    path = Path(
        late=lambda number: None if chance.random() < 0.05 else chance.random() * 0.03,
        answer=lambda number: None if chance.random() < 0.1 else 0.04 + chance.random() * 0.03,
    )
    path.play(600)
    sent = path.sent - 65_000
    assert sent > 2 * 65_536, "over two wraps"
    assert path.most_held < 0.5 * FPS * PACKETS
    assert path.most_asked < 64
    assert len(path.asked) < 2 * 0.05 * sent
    assert max(Counter(number for _, number in path.asked).values()) <= VIDEO_WAIT / NACK_EVERY
    assert len(path.out) > 0.999 * sent
    assert path.out == sorted(set(path.out))
