"""In which order streams' events are delivered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.events.lanes import LONGEST_BACKOFF, Lanes, backoff


def test_streams_take_turns_and_come_once() -> None:
    lanes = Lanes()
    for stream in ("a", "b", "a"):
        lanes.add(stream)
    assert [lanes.take(0), lanes.take(0), lanes.take(0)] == ["a", "b", None]


def test_one_that_gets_an_event_while_it_is_under_way_comes_again() -> None:
    lanes = Lanes()
    lanes.add("a")
    assert lanes.take(0) == "a"
    lanes.add("a")
    assert lanes.take(0) is None
    lanes.emptied("a")
    assert lanes.take(0) == "a"
    lanes.emptied("a")
    assert lanes.take(0) is None


def test_one_that_fails_rests_longer_each_time_and_others_go_on() -> None:
    lanes = Lanes()
    lanes.add("a")
    lanes.add("b")
    assert lanes.take(0) == "a"
    assert lanes.failed("a", 0) == 1
    lanes.add("a")
    assert lanes.take(0.5) == "b"
    assert lanes.take(0.5) is None
    assert lanes.wait(0.5) == 0.5
    assert lanes.take(1) == "a"
    assert lanes.failed("a", 1) == 2
    assert lanes.take(3) == "a"
    lanes.delivered("a")
    assert lanes.failed("a", 3) == 1


def test_the_rest_has_a_limit() -> None:
    assert [backoff(1), backoff(5), backoff(100)] == [1, 16, LONGEST_BACKOFF]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "take", "emptied", "failed"]))))
def test_no_stream_is_under_way_twice_and_none_is_lost(steps: list[tuple[str, str]]) -> None:
    lanes, now, busy, waiting = Lanes(), 0.0, set[str](), set[str]()
    for stream, step in steps:
        now += 1
        match step:
            case "add":
                lanes.add(stream)
                waiting.add(stream)
            case "take":
                taken = lanes.take(now)
                if taken is not None:
                    assert taken not in busy
                    busy.add(taken)
                    waiting.discard(taken)
            case "emptied" if stream in busy:
                busy.discard(stream)
                lanes.emptied(stream)
            case "failed" if stream in busy:
                busy.discard(stream)
                waiting.add(stream)
                lanes.failed(stream, now)
    for stream in sorted(busy):
        lanes.emptied(stream)
    found = set()
    while (taken := lanes.take(now + LONGEST_BACKOFF)) is not None:
        found.add(taken)
    assert found == waiting
