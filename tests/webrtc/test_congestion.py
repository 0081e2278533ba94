from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webrtc.congestion import MAX_PACKETS, LossBasedEstimate, TransportFeedback
from harness.cost import TURN, cpu_seconds
from harness.waiting import SLACK


def read(packet: bytes) -> list[tuple[int, float | None]]:
    """What a sender reads in a feedback packet: each number and when it came, in seconds, None if never.

    Written from draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1.
    """
    assert packet[0] == 0x8F
    assert packet[1] == 205
    assert len(packet) == 4 + 4 * int.from_bytes(packet[2:4], "big")
    base, count = int.from_bytes(packet[12:14], "big"), int.from_bytes(packet[14:16], "big")
    time = int.from_bytes(packet[16:19], "big") * 0.064
    at, symbols = 20, []
    while len(symbols) < count:
        chunk = int.from_bytes(packet[at : at + 2], "big")
        at += 2
        if chunk & 0x8000:
            assert chunk & 0x4000
            symbols += [chunk >> shift & 3 for shift in range(12, -2, -2)]
        else:
            symbols += [chunk >> 13] * (chunk & 0x1FFF)
    found: list[tuple[int, float | None]] = []
    for place, symbol in enumerate(symbols[:count]):
        if symbol == 0:
            found.append((base + place & 0xFFFF, None))
            continue
        size = symbol
        time += int.from_bytes(packet[at : at + size], "big", signed=size == 2) * 0.00025
        at += size
        found.append((base + place & 0xFFFF, time))
    assert len(packet) - at < 4
    return found


@given(
    st.integers(0, 0xFFFF),
    st.lists(st.tuples(st.integers(1, 12), st.floats(-0.02, 0.5)), min_size=1, max_size=60),
    st.floats(0, 1e6),
)
def test_arrivals_are_told_to_a_quarter_of_a_millisecond(
    start: int, steps: list[tuple[int, float]], begin: float
) -> None:
    feedback = TransportFeedback()
    number, now, came = start, begin + 10, {}
    for gap, later in steps:
        number += gap
        now += later
        came[number & 0xFFFF] = now
        feedback.arrived(number & 0xFFFF, now)
    told = [item for packet in feedback.packets(1, 2) for item in read(packet)]
    assert {number for number, when in told if when is not None} == set(came)
    wrap = 0.064 * (1 << 24)
    for number, when in told:
        if when is not None:
            off = (came[number] - when) % wrap
            assert min(off, wrap - off) < 0.0006
    assert feedback.packets(1, 2) == []


def test_a_packet_lost_between_two_feedbacks_is_told_as_lost() -> None:
    feedback = TransportFeedback()
    feedback.arrived(65535, 1.0)
    feedback.packets(1, 2)
    feedback.arrived(1, 1.1)
    (packet,) = feedback.packets(1, 2)
    assert [(number, when is None) for number, when in read(packet)] == [(0, True), (1, False)]


def test_a_packet_that_is_late_does_not_make_its_neighbours_lost() -> None:
    feedback = TransportFeedback()
    for number in (10, 12, 13, 15):
        feedback.arrived(number, 1.0)
    feedback.packets(1, 2)
    for number, now in ((11, 1.05), (16, 1.06), (14, 1.07), (18, 1.08)):
        feedback.arrived(number, now)
    told = [item for packet in feedback.packets(1, 2) for item in read(packet)]
    assert [(number, when is None) for number, when in told] == [
        (11, False),
        (14, False),
        (16, False),
        (17, True),
        (18, False),
    ]


@given(st.permutations(range(60)), st.lists(st.integers(1, 12), min_size=1, max_size=12))
def test_no_packet_is_reported_twice_or_lost_after_it_came(order: list[int], sizes: list[int]) -> None:
    feedback = TransportFeedback()
    told: list[tuple[int, bool]] = []
    at = 0
    for size in [*sizes, len(order)]:
        for number in order[at : at + size]:
            feedback.arrived(number, 1.0 + number)
        at += size
        told += [(n, when is not None) for packet in feedback.packets(1, 2) for n, when in read(packet)]
    assert sorted(number for number, came in told if came) == list(range(60))
    for place, (number, came) in enumerate(told):
        assert came or (number, True) not in told[:place]


def test_feedback_packets_fit_a_datagram() -> None:
    feedback = TransportFeedback()
    for number in range(3000):
        feedback.arrived(number, 1.0 + number * 0.1)
    assert max(map(len, feedback.packets(1, 2))) < 1200


@pytest.mark.parametrize("gap", [1, 400, 1999, 30_000])
def test_a_sender_that_skips_numbers_gets_little_feedback_and_costs_little(gap: int) -> None:
    def told() -> list[bytes]:
        feedback = TransportFeedback()
        for number in range(0, 20_000 * gap, gap):
            feedback.arrived(number & 0xFFFF, 1.0)
        return feedback.packets(1, 2)

    assert cpu_seconds(told) < SLACK * TURN
    assert len(told()) <= MAX_PACKETS


def test_the_estimate_rises_without_loss_and_falls_with_it() -> None:
    estimate = LossBasedEstimate(2_500_000, 8_000_000)
    for _ in range(30):
        estimate.update(0.0, 2_000_000)
    assert estimate.bits_per_second == 8_000_000
    assert estimate.update(0.3, 1_000_000) < 1_250_000
    for _ in range(30):
        estimate.update(0.9, 1000)
    assert estimate.bits_per_second == LossBasedEstimate.MIN
