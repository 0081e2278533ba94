from __future__ import annotations

from gateway.media.rate import MAX_EVENTS, RateMeter


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def metered(pace: float, count: int, size: int = 1_000) -> tuple[RateMeter, Clock]:
    clock = Clock()
    meter = RateMeter(clock=clock)
    for _ in range(count):
        clock.now += pace
        meter.add(size)
    return meter, clock


def test_a_steady_flow_is_measured_from_its_second_event_on() -> None:
    for count in (2, 10, 500):
        meter, _ = metered(0.04, count)
        assert abs(meter.per_second - 25) < 0.01
        assert abs(meter.bits_per_second - 200_000) < 100


def test_one_event_tells_nothing() -> None:
    meter, _ = metered(0.04, 1)
    assert (meter.per_second, meter.bits_per_second) == (0.0, 0)


def test_the_rate_falls_when_nothing_comes_and_ends_at_zero() -> None:
    meter, clock = metered(0.04, 50)
    clock.now += 0.05
    assert abs(meter.per_second - 25) < 0.01
    clock.now += 0.95
    assert 0 < meter.per_second < 25
    clock.now += 2
    assert meter.per_second == 0


def test_a_flood_is_remembered_within_bounds() -> None:
    meter, _ = metered(0.0001, 3 * MAX_EVENTS)
    assert abs(meter.per_second - 10_000) < 10
