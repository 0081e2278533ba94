from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.devnet.trickle_channel import NEWEST, NEXT, RETAINED, Channel, Closed, NoSuchSegment

OPERATIONS = st.sampled_from(["write", "finish", "abandon", "give up", "restart"])


def a_channel(on_segment: Callable[[int], object] | None = None) -> Channel:
    return Channel("c", content_type="video/MP2T", now=0.0, on_segment=on_segment)


@given(st.lists(st.tuples(st.integers(0, 12), OPERATIONS), max_size=60))
def test_numbers_only_rise_and_only_the_newest_segments_are_kept(steps: list[tuple[int, str]]) -> None:
    begun: list[int] = []
    channel = a_channel(begun.append)
    open_segments = {}
    former = 0
    for seq, operation in steps:
        if seq not in open_segments:
            try:
                open_segments[seq] = channel.open(seq)
            except NoSuchSegment:
                assert seq < channel.next_seq or seq >= channel.next_seq + RETAINED
                continue
        segment = open_segments[seq]
        if operation == "write" and not segment.ended:
            channel.write(segment, b"x", 1.0)
        elif operation == "finish":
            channel.finish(open_segments.pop(seq), 1.0)
        elif operation == "abandon":
            channel.abandon(open_segments.pop(seq))
        elif operation == "give up":
            channel.delete(seq, 1.0)
        elif operation == "restart":
            channel.restart(seq, 1.0)
        assert channel.next_seq >= former
        former = channel.next_seq
        assert all(number >= channel.next_seq - RETAINED for number in channel.kept)
    assert len(begun) == len(set(begun))


@pytest.mark.asyncio
async def test_a_reader_waits_for_the_first_byte_and_is_told_of_the_end() -> None:
    channel = a_channel()
    waiting = asyncio.get_running_loop().create_task(channel.find(channel.resolve(NEXT)))
    segment = channel.open(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    channel.write(segment, b"x", 1.0)
    assert await waiting is segment
    assert (channel.resolve(NEXT), channel.resolve(NEWEST)) == (1, 0)
    ending = asyncio.get_running_loop().create_task(channel.find(1))
    await asyncio.sleep(0)
    channel.close()
    with pytest.raises(Closed):
        await ending


@pytest.mark.asyncio
async def test_a_number_that_is_skipped_while_a_reader_waits_is_no_segment() -> None:
    channel = a_channel()
    waiting = asyncio.get_running_loop().create_task(channel.find(0))
    await asyncio.sleep(0)
    channel.write(channel.open(1), b"x", 1.0)
    with pytest.raises(NoSuchSegment):
        await waiting
